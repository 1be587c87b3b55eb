-- Idempotency: the same key and payload get the same outcome, before anything else is judged.
--
-- The hard part is the order. A verb locks the owning row first; at READ COMMITTED each inner
-- statement has a fresh snapshot, so after the lock every committed duplicate is visible and can be
-- replayed: no exception block, no subtransaction, no unique violation that would abort the
-- caller's transaction. Only success binds a key, and money keys are kept for ever.

-- Stable, not immutable, so that it is inlined.
create function idempotency._fingerprint(payload text) returns bytea
language sql stable parallel safe
return sha256(convert_to(payload, 'UTF8'));

create function idempotency._forget(at timestamptz, at_most int) returns int
language sql as $$
    with old as (
        select k.bucket, k.account_id, k.verb, k.key from idempotency.key k
        where k.forget_at < at
        order by k.forget_at
        limit at_most
        for update skip locked),
    gone as (
        delete from idempotency.key k using old o
        where (k.bucket, k.account_id, k.verb, k.key) = (o.bucket, o.account_id, o.verb, o.key)
        returning 1)
    select count(*)::int from gone
$$;

-- How each member of a batch stands, by position, after the owning rows have been locked:
--   fresh                   judge it
--   replay                  done before with the same payload; results[i] says what came of it
--   idempotency_key_reused  done before with another payload
--   twin                    same key and payload as an earlier member (twins[i]): shares its fate
--   busy                    same key as an earlier member, other payload: ask again alone, when the
--                           earlier one has been decided
create function idempotency._judge(
    accounts uuid[], verb text, keys text[], fingerprints bytea[],
    out standings text[], out results uuid[], out twins int[])
language plpgsql as $$
#variable_conflict use_column
begin
    -- Where nobody is named twice, there are no twins.
    if cardinality(accounts) > 1 then
        select array_agg(x.first order by x.ord) into twins
        from (select u.ord, first_value(u.ord::int) over (
                         partition by u.account, u.key order by u.ord) as first
              from unnest(accounts, keys) with ordinality as u(account, key, ord)) x
        where cardinality(accounts) > (select count(distinct u) from unnest(accounts) u);
    end if;
    select array_agg(case
               when k.fingerprint = m.fingerprint then 'replay'
               when k.fingerprint is not null then 'idempotency_key_reused'
               when twins is null or twins[m.ord] = m.ord then 'fresh'
               when fingerprints[twins[m.ord]] = m.fingerprint then 'twin'
               else 'busy' end order by m.ord),
           array_agg(k.result_id order by m.ord),
           array_agg(coalesce(twins[m.ord], m.ord::int) order by m.ord)
    into standings, results, twins
    from unnest(accounts, keys, fingerprints) with ordinality
         as m(account, key, fingerprint, ord)
    -- Limited, so that each member is a probe whatever the planner believes: to a table that it
    -- knows as empty, reading all keys of the verb once a member looks as cheap.
    left join lateral (
        select x.fingerprint, x.result_id from idempotency.key x
        where x.bucket = kernel.bucket_of(m.account) and x.account_id = m.account
          and x.verb = _judge.verb and x.key = m.key
        limit 1) k on true;
end $$;

-- Binds keys to results, for ever (money) or until forget_at.
create function idempotency._bind(
    accounts uuid[], verb text, keys text[], fingerprints bytea[], results uuid[],
    at timestamptz, forget_at timestamptz default null)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into idempotency.key (bucket, account_id, verb, key, fingerprint, result_id, at,
                                 forget_at)
    select kernel.bucket_of(b.account), b.account, verb, b.key, b.fingerprint, b.result, at,
           forget_at
    from unnest(accounts, keys, fingerprints, results) as b(account, key, fingerprint, result);
end $$;

-- The final code of each member; a twin takes that of the member it equals.
create function idempotency._settle_twins(codes text[], twins int[])
returns table (ord int, final text, at_ord int) language plpgsql as $$
begin
    return query
    select u.n::int, case when u.c = 'twin' then codes[twins[u.n]] else u.c end,
           case when u.c = 'twin' then twins[u.n] else u.n::int end
    from unnest(codes) with ordinality as u(c, n)
    order by u.n;
end $$;
