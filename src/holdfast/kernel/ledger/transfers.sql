-- Transfers: credit that follows its owner when one account becomes an alias of another.
--
-- An alias's wallet stays where it is, with its holds. What lands in it later is moved on by
-- forward(), called for an effect that was written in the transaction of the landing. It is exactly
-- once without remembering anything: it moves what is there, both entries in one transaction, so
-- done twice, or after a death in between, the second finds nothing.

-- Moves all that is not held from one locked wallet to another, lot by lot: what a credit is, and
-- when it ends, goes along. Returns how much.
create function ledger._transfer(
    source uuid, target uuid, asset text, cause text, moment timestamptz, actor text default null,
    request_id text default null)
returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
    l     ledger.lot;
    fresh uuid;
    given jsonb := '{}';
    taken jsonb := '{}';
    total bigint := 0;
begin
    for l in select x.* from ledger.lot x
             where x.bucket = kernel.bucket_of(source) and x.account_id = source
               and x.asset = asset and x.open and x.remaining > x.held
             order by x.id
    loop
        fresh := kernel.new_id(kernel.bucket_of(target));
        insert into ledger.lot (bucket, id, account_id, asset, kind, amount, remaining, priority,
                                expires_at, cause, at)
        values (kernel.bucket_of(target), fresh, target, asset, l.kind, l.remaining - l.held,
                l.remaining - l.held, l.priority, l.expires_at, l.cause, moment);
        given := given || jsonb_build_object(l.id, l.remaining - l.held);
        taken := taken || jsonb_build_object(fresh, l.remaining - l.held);
        total := total + l.remaining - l.held;
    end loop;
    if total > 0 then
        perform ledger._apply_to_lots(given, -1, 0);
        perform ledger._move(source, asset, kernel.new_id(kernel.bucket_of(source)), 'transfer',
                             -total, 0, 'account:' || target, cause, ledger._negated(given),
                             moment, null, actor, null, request_id);
        perform ledger._move(target, asset, kernel.new_id(kernel.bucket_of(target)), 'transfer',
                             total, 0, 'account:' || source, cause, taken, moment, null, actor,
                             null, request_id);
    end if;
    return total;
end $$;

-- Brings what has landed in an alias's wallet to the account it was linked to. Returns how much;
-- 0 when nothing is there (any more).
create function ledger.forward(account uuid, asset text default 'crystal')
returns bigint language plpgsql as $$
#variable_conflict use_variable
declare
    target uuid;
    held   uuid;
    moment timestamptz;
    seq    bigint;
begin
    loop
        select w.forward_to, w.seq into target, seq from ledger.wallet w
        where w.bucket = kernel.bucket_of(account) and w.account_id = account and w.asset = asset;
        if target is null then
            return 0;
        end if;
        exit when held = target;
        perform ledger._lock(array[account, target], true);
        held := target;       -- read again: it may have been linked on meanwhile
    end loop;
    moment := kernel.now();
    perform ledger._expire_due(array[account, target], asset, moment);
    select w.seq into seq from ledger.wallet w
    where w.bucket = kernel.bucket_of(account) and w.account_id = account and w.asset = asset;
    return ledger._transfer(account, target, asset, format('forward:%s:%s', account, seq),
                            moment, 'relay');
end $$;

-- How much would move now, by a look without a lock: holds and lots whose time has come, and which
-- nobody has swept yet, count as ended. Lots of one kind may be left out.
create function ledger._would_be_free(account uuid, but_kind text, moment timestamptz)
returns bigint language sql stable as $$
    select coalesce(sum(l.remaining - l.held + coalesce(due.reserved, 0)), 0)::bigint
    from ledger.lot l
    left join (
        select p.key::uuid as lot, sum(p.value::bigint) as reserved
        from ledger.hold h cross join jsonb_each_text(h.lots) p
        where h.bucket = kernel.bucket_of(account) and h.account_id = account
          and h.status = 'OPEN' and h.expires_at <= moment
        group by p.key) due on due.lot = l.id
    where l.bucket = kernel.bucket_of(account) and l.account_id = account and l.open
      and l.kind is distinct from but_kind and coalesce(l.expires_at > moment, true)
$$;

-- Ends what these locked wallets still promise and takes what is left: their person leaves.
create function ledger._forfeit(people uuid[], actor text, request_id text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    h ledger.hold;
    w ledger.wallet;
begin
    for h in select x.* from ledger.hold x join unnest(people) p
             on x.bucket = kernel.bucket_of(p) and x.account_id = p
             where x.status = 'OPEN' order by x.id
    loop
        perform ledger._end_hold(h, 'RELEASED', 0, actor, moment, request_id);
    end loop;
    update ledger.hold x set cause = 'erased' from unnest(people) p
    where x.bucket = kernel.bucket_of(p) and x.account_id = p;
    for w in select x.* from ledger.wallet x join unnest(people) p
             on x.bucket = kernel.bucket_of(p) and x.account_id = p order by x.account_id
    loop
        perform ledger._expire_due(array[w.account_id], w.asset, moment);
        select x.balance into w.balance from ledger.wallet x
        where x.bucket = w.bucket and x.account_id = w.account_id and x.asset = w.asset;
        if w.balance > 0 then
            perform ledger._burn(w.account_id, w.asset, w.balance, 'adjustment', 'forfeited',
                format('erasure:%s:%s', w.account_id, w.asset), moment, actor, 'erasure',
                request_id);
        end if;
    end loop;
end $$;
