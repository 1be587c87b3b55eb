-- The queue: money and work commit together, and a lost lease writes nothing.
--
-- submit() charges and enqueues in one transaction; fail() and cancel() refund in the failing one.
-- claim() gives every attempt a new fencing token; whatever comes later with an old token changes
-- nothing and is told `lease_lost`. Claims are batches: SKIP LOCKED from the caller's low-water
-- key, because under an open snapshot the dead entries at the head of the index are what a claim
-- would otherwise walk, again and again.
--
-- Lock order, everywhere: job_ready, job, wallet, stream; in id order within each.

select transitions.declare('job', 'queue.job', $$
    queued, processing, completed, failed, cancelled
    claim:       queued → processing (worker)
    finish:      processing → completed (token)
    fail:        processing → failed (token)
    retry_later: processing → queued (token)
    hand_back:   processing → queued (token)
    pause:       processing → queued (token)
    stall:       processing → queued | failed (sweeper)
    expire:      queued → failed (sweeper)
    cancel:      queued | processing → cancelled (owner, admin)
$$);

-- Registers a kind or changes its settings; jobs already submitted keep their attempts.
create function queue.declare_kind(
    called text, attempts int, backoff_seconds double precision, lease_seconds double precision,
    deadline_seconds double precision, queue_deadline_seconds double precision)
returns void language sql as $$
    insert into queue.kind (kind, attempts, backoff_seconds, lease_seconds, deadline_seconds,
                            queue_deadline_seconds)
    values (called, attempts, backoff_seconds, lease_seconds, deadline_seconds,
            queue_deadline_seconds)
    on conflict (kind) do update
    set attempts = excluded.attempts, backoff_seconds = excluded.backoff_seconds,
        lease_seconds = excluded.lease_seconds, deadline_seconds = excluded.deadline_seconds,
        queue_deadline_seconds = excluded.queue_deadline_seconds
$$;

-- Charge + job, for each member, in one round trip; a replay answers with the price and the time of
-- the first. `verb` names the idempotency space ('stories.generate'); a price of 0 is work that
-- costs nothing.
create function queue.submit(
    verb text, accounts uuid[], kinds text[], payloads jsonb[], prices bigint[], keys text[],
    retry_ofs uuid[], request_ids text[], asset text default 'crystal',
    wait boolean default true)
returns table (ord int, code text, job_id uuid, price bigint, needed bigint, available bigint,
               replayed boolean, at timestamptz)
language plpgsql as $$
#variable_conflict use_variable
declare
    held    record := ledger._lock_idle(accounts, wait);
    moment  timestamptz := kernel.now();
    made    record;
    judged  record;
    charged record;
begin
    made := queue._prepare(accounts, kinds, payloads, prices, retry_ofs);
    judged := idempotency._judge(accounts, verb, keys, made.prints);
    charged := ledger._charge(accounts, asset, prices, made.ids, made.causes, request_ids, moment,
                              ledger._unlocked(accounts, held.locked, judged.standings));
    if 'ok' = any (charged.codes) then
        perform queue._enqueue(verb, made.ids, made.events, accounts, kinds, payloads, prices,
                               keys, made.prints, retry_ofs, request_ids, asset, charged.seqs,
                               charged.codes, moment);
        perform queue._announce(accounts, made.events, 'jobs.queued', made.effects, request_ids,
                                charged.codes, held.idle, moment);
        perform queue._wake();
    end if;
    if 'ok' = all (charged.codes) then          -- no replay, no twin, nobody refused
        return query
        select x.ord::int, 'ok', x.id, x.price, x.price, x.free, false, moment
        from unnest(made.ids, prices, charged.frees) with ordinality as x(id, price, free, ord);
        return;
    end if;
    return query
    select x.ord::int, case x.final when 'replay' then 'ok' else x.final end,
           case x.final when 'ok' then made.ids[x.at_ord] else was.id end,
           coalesce(j.price, prices[x.ord]), prices[x.ord], charged.frees[x.at_ord],
           x.final = 'replay' or x.at_ord <> x.ord, coalesce(j.created_at, moment)
    from idempotency._settle_twins(charged.codes, judged.twins) x
    left join lateral (select case x.final when 'replay' then judged.results[x.at_ord] end)
              was (id) on true
    left join queue.job j on j.bucket = kernel.bucket_of(was.id) and j.id = was.id;
end $$;
select kernel.plan_by_index('queue.submit');

-- What can be made of the arguments alone, for all members at once. An event's id names the audit
-- row and the effect.
create function queue._prepare(
    accounts uuid[], kinds text[], payloads jsonb[], prices bigint[], retry_ofs uuid[],
    out ids uuid[], out events uuid[], out causes text[], out prints bytea[], out effects jsonb[])
language plpgsql as $$
#variable_conflict use_variable
declare
    seed kernel.seed := kernel.new_seed();
begin
    -- unnest gives its rows in order, and aggregates take them as they come: nothing is sorted. The
    -- offset keeps each id from being made once a use.
    select array_agg(x.id), array_agg(x.event), array_agg('job:' || x.id), array_agg(x.print),
           array_agg(jsonb_build_object('job', x.id, 'kind', x.kind, 'charged', x.price))
    into ids, events, causes, prints, effects
    from (select u.kind, u.price,
                 idempotency._fingerprint(concat_ws(' ', u.kind, u.payload, u.retry_of)) as print,
                 kernel.nth_id(seed.high, seed.low, 2 * u.ord, kernel.bucket_of(u.account)) as id,
                 kernel.nth_id(seed.high, seed.low, 2 * u.ord + 1, kernel.bucket_of(u.account))
                 as event
          from unnest(accounts, kinds, payloads, prices, retry_ofs) with ordinality
               as u(account, kind, payload, price, retry_of, ord)
          offset 0) x;
end $$;

-- A new job for one that failed or was cancelled, charged anew (`cost`; null: what the old one
-- cost): finished stays finished, so what may be tried again stays so and a replay finds its key.
-- One priced by use reserves its estimate anew.
create function queue.retry(verb text, job uuid, owners uuid[], account uuid, key text, cost bigint,
                            request_id text default null)
returns table (code text, job_id uuid, price bigint, needed bigint, available bigint,
               replayed boolean, at timestamptz, payload jsonb, status text)
language plpgsql as $$
#variable_conflict use_column
declare
    old queue.job;
begin
    select * into old from queue.job j
    where j.bucket = kernel.bucket_of(job) and j.id = job and j.account_id = any (owners);
    if old.status in ('failed', 'cancelled') and old.hold_id is not null then
        return query select r.code, r.job_id, r.price, r.needed, r.available, r.replayed, r.at,
                            old.payload, old.status
        from queue.reserve(verb, account, old.kind, old.payload, coalesce(cost, old.price), key,
                           request_id, old.asset, old.id) r;
    elsif old.status in ('failed', 'cancelled') then
        return query select s.code, s.job_id, s.price, s.needed, s.available, s.replayed, s.at,
                            old.payload, old.status
        from queue.submit(verb, array[account], array[old.kind], array[old.payload],
            array[coalesce(cost, old.price)], array[key], array[old.id], array[request_id],
            old.asset) s;
    else
        code := case when old.id is null then 'not_found' else 'job_not_failed' end;
        status := old.status;
        return next;
    end if;
end $$;

-- The rows of the members that passed: key, job, place in the queue, audit; one statement.
create function queue._enqueue(
    verb text, ids uuid[], events uuid[], accounts uuid[], kinds text[], payloads jsonb[],
    prices bigint[], keys text[], prints bytea[], retry_ofs uuid[], request_ids text[], asset text,
    seqs bigint[], codes text[], moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    enqueued int;
begin
    with m as materialized (
        select u.*, kernel.bucket_of(u.id) as bucket, k.attempts, k.queue_deadline_seconds
        from unnest(ids, events, accounts, kinds, payloads, prices, keys, prints, retry_ofs,
                    request_ids, seqs, codes)
             as u(id, event, account, kind, payload, price, key, print, retry_of, request_id, seq,
                  code)
        join queue.kind k on k.kind = u.kind
        where u.code = 'ok'),
    bound as (
        insert into idempotency.key (bucket, account_id, verb, key, fingerprint, result_id, at)
        select m.bucket, m.account, verb, m.key, m.print, m.id, moment from m),
    traced as (
        insert into audit.event (bucket, entity_id, id, entity, action, to_status, actor,
                                 request_id, at)
        select m.bucket, m.id, m.event, 'job', verb, 'queued', m.account::text, m.request_id,
               moment from m),
    made as (
        insert into queue.job (bucket, id, account_id, kind, payload, asset, price, charge_seq,
                               attempts, retry_of, request_id, created_at)
        select m.bucket, m.id, m.account, m.kind, m.payload, asset, m.price, m.seq, m.attempts,
               m.retry_of, m.request_id, moment
        from m)
    insert into queue.job_ready (bucket, id, account_id, kind, run_at, due_at)
    select m.bucket, m.id, m.account, m.kind, moment,
           moment + make_interval(secs => m.queue_deadline_seconds)
    from m;
    get diagnostics enqueued = row_count;
    if enqueued <> cardinality(array_positions(codes, 'ok')) then
        perform queue._require_kinds(kinds);
    end if;
end $$;

create function queue._require_kinds(kinds text[]) returns void language plpgsql as $$
declare
    unknown text;
begin
    select u into unknown from unnest(kinds) u
    where not exists (select from queue.kind k where k.kind = u) limit 1;
    if unknown is not null then
        raise exception 'no job kind "%" is declared', unknown
            using errcode = 'KH005', hint = 'Declare it in a worker or server that runs the job.';
    end if;
end $$;

-- The effects of the members that passed.
create function queue._announce(
    accounts uuid[], events uuid[], topic text, effects jsonb[], request_ids text[],
    codes text[], idle uuid[], moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    if not 'ok' = all (codes) then
        select array_agg(u.account order by u.ord), array_agg(u.event order by u.ord),
               array_agg(u.effect order by u.ord), array_agg(u.request_id order by u.ord)
        into accounts, events, effects, request_ids
        from unnest(accounts, events, effects, request_ids, codes) with ordinality
             as u(account, event, effect, request_id, code, ord)
        where u.code = 'ok';
    end if;
    perform outbox._append(accounts, events,
                           array_fill(topic, array[cardinality(accounts)]), effects, request_ids,
                           moment, idle => idle);
end $$;

-- One NOTIFY for all who said that they wait; none when nobody does.
create function queue._wake() returns void language plpgsql as $$
begin
    if exists (select from queue.idle) then
        delete from queue.idle i using (
            select worker from queue.idle for update skip locked) w
        where i.worker = w.worker;
        if found then
            perform pg_notify('holdfast_jobs', '');
        end if;
    end if;
end $$;
