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
-- the first. `verb` names the idempotency space
-- ('stories.generate'); prices[i] = 0 is work that costs nothing.
create function queue.submit(
    verb text, accounts uuid[], kinds text[], payloads jsonb[], prices bigint[], keys text[],
    retry_ofs uuid[], request_ids text[], asset text default 'crystal',
    wait boolean default true)
returns table (ord int, code text, job_id uuid, price bigint, needed bigint, available bigint,
               replayed boolean, at timestamptz)
language plpgsql as $$
#variable_conflict use_variable
declare
    locked   uuid[] := ledger._lock(accounts, wait);
    moment   timestamptz := kernel.now();
    seed     kernel.seed := kernel.new_seed();
    prints   bytea[];
    judged   record;
    charged  record;
    fresh    int[]; ids uuid[];
    codes    text[]; jobs uuid[]; frees bigint[];
begin
    select array_agg(idempotency._fingerprint(concat_ws(' ', u.kind, u.payload, u.retry_of))
                     order by u.ord)
    into prints
    from unnest(kinds, payloads, retry_ofs) with ordinality as u(kind, payload, retry_of, ord);
    judged := idempotency._judge(accounts, verb, keys, prints);
    jobs := judged.results;
    codes := ledger._unlocked(accounts, locked, judged.standings);
    select array_agg(u.ord::int order by u.account, u.ord),
           array_agg(kernel.nth_id(seed.high, seed.low, u.ord, kernel.bucket_of(u.account))
                     order by u.account, u.ord)
    into fresh, ids
    from unnest(accounts, codes) with ordinality as u(account, code, ord) where u.code = 'fresh';
    if fresh is not null then
        perform queue._require_kinds(kinds);
        charged := queue._charge_and_enqueue(verb, fresh, ids, accounts, kinds,
            payloads, prices, keys, prints, retry_ofs, request_ids, asset, moment);
        for i in 1 .. cardinality(fresh) loop
            codes[fresh[i]] := charged.codes[i];
            frees[fresh[i]] := charged.frees[i];
            if charged.codes[i] = 'ok' then jobs[fresh[i]] := ids[i]; end if;
        end loop;
    end if;
    return query
    select x.ord::int, case x.final when 'replay' then 'ok' else x.final end,
           case when x.final in ('ok', 'replay') then jobs[x.at_ord] end,
           coalesce(j.price, prices[x.ord]), prices[x.ord], frees[x.at_ord],
           x.final = 'replay' or x.at_ord <> x.ord, coalesce(j.created_at, moment)
    from idempotency._settle_twins(codes, judged.twins) x
    left join lateral (select case x.final when 'replay' then jobs[x.at_ord] end) was (id) on true
    left join queue.job j on j.bucket = kernel.bucket_of(was.id) and j.id = was.id;
end $$;
select kernel.plan_by_index('queue.submit');

-- A new job for one that failed or was cancelled, charged anew (`cost`; null: what the old one
-- cost): finished stays finished, so what may be tried again stays so and a replay finds its key.
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
    if old.status in ('failed', 'cancelled') then
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

create function queue._charge_and_enqueue(
    verb text, fresh int[], new_jobs uuid[], accounts uuid[], kinds text[], payloads jsonb[],
    prices bigint[], keys text[], prints bytea[], retry_ofs uuid[], request_ids text[],
    asset text, at timestamptz, out codes text[], out frees bigint[])
language plpgsql as $$
#variable_conflict use_variable
declare
    charged record;
    good    int[];      -- positions in fresh that passed
begin
    charged := ledger._charge(
        (select array_agg(accounts[f] order by n) from unnest(fresh) with ordinality u(f, n)),
        asset,
        (select array_agg(prices[f] order by n) from unnest(fresh) with ordinality u(f, n)),
        new_jobs,
        (select array_agg('job:' || j order by n) from unnest(new_jobs) with ordinality u(j, n)),
        (select array_agg(request_ids[f] order by n) from unnest(fresh) with ordinality u(f, n)),
        at);
    codes := charged.codes; frees := charged.frees;
    select array_agg(n::int order by n) into good
    from unnest(codes) with ordinality u(c, n) where c = 'ok';
    if good is null then
        return;
    end if;
    insert into queue.job (bucket, id, account_id, kind, payload, asset, price, charge_seq,
                           attempts, retry_of, request_id, created_at)
    select kernel.bucket_of(new_jobs[g]), new_jobs[g], accounts[fresh[g]], kinds[fresh[g]],
           payloads[fresh[g]], asset, prices[fresh[g]], charged.seqs[g], k.attempts,
           retry_ofs[fresh[g]], request_ids[fresh[g]], at
    from unnest(good) g join queue.kind k on k.kind = kinds[fresh[g]];
    insert into queue.job_ready (bucket, id, account_id, kind, run_at, due_at)
    select kernel.bucket_of(new_jobs[g]), new_jobs[g], accounts[fresh[g]], kinds[fresh[g]], at,
           at + make_interval(secs => k.queue_deadline_seconds)
    from unnest(good) g join queue.kind k on k.kind = kinds[fresh[g]];
    perform queue._after_submit(verb,
        (select array_agg(new_jobs[g]) from unnest(good) g),
        (select array_agg(accounts[fresh[g]]) from unnest(good) g),
        (select array_agg(kinds[fresh[g]]) from unnest(good) g),
        (select array_agg(prices[fresh[g]]) from unnest(good) g),
        (select array_agg(keys[fresh[g]]) from unnest(good) g),
        (select array_agg(prints[fresh[g]]) from unnest(good) g),
        (select array_agg(request_ids[fresh[g]]) from unnest(good) g), at);
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

-- The traces of a submit: the bound key, the audit row, the effect; and a call to whoever waits.
create function queue._after_submit(
    verb text, jobs uuid[], accounts uuid[], kinds text[], prices bigint[], keys text[],
    prints bytea[], request_ids text[], at timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    seed     kernel.seed := kernel.new_seed();
    events   uuid[];
    payloads jsonb[];
begin
    perform idempotency._bind(accounts, verb, keys, prints, jobs, at);
    select array_agg(kernel.nth_id(seed.high, seed.low, n, kernel.bucket_of(j)) order by n)
    into events from unnest(jobs) with ordinality as u(j, n);
    insert into audit.event (bucket, entity_id, id, entity, action, to_status, actor,
                             request_id, at)
    select kernel.bucket_of(x.job), x.job, x.event, 'job', verb, 'queued', x.account::text,
           x.request_id, at
    from unnest(jobs, events, accounts, request_ids) as x(job, event, account, request_id);
    select array_agg(jsonb_build_object('job', x.job, 'kind', x.kind, 'charged', x.price)
                     order by x.n)
    into payloads
    from unnest(jobs, kinds, prices) with ordinality as x(job, kind, price, n);
    perform outbox._append(accounts, events, array_fill('jobs.queued'::text,
        array[cardinality(jobs)]), payloads, request_ids, at);
    perform queue._wake();
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
