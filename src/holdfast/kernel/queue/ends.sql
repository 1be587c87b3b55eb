-- The queue, third part: ends. A finish with an old token changes nothing and says lease_lost; a
-- failing end and its refund are one transaction.

-- Completes jobs. Outcomes: ok (also when the same holder asks again); lease_lost, with the status
-- that stands; busy. What came too late is kept as an unpaid artifact, never shown as the result.
create function queue.finish(
    jobs uuid[], tokens uuid[], results jsonb[], wait boolean default true)
returns table (ord int, code text, status text)
language plpgsql as $$
#variable_conflict use_column
declare
    held   record;
    codes  text[] := array_fill(null::text, array[cardinality(jobs)]);
    moment timestamptz;
    o      int;
begin
    held := queue._hold_leases(jobs, tokens, false, wait);
    moment := kernel.now();
    foreach o in array held.busy loop codes[o] := 'busy'; end loop;
    if cardinality(held.ords) > 0 then
        foreach o in array held.ords loop codes[o] := 'ok'; end loop;
        update queue.job j
        set status = 'completed', result = u.result, token = u.token, finished_at = moment,
            version = j.version + 1
        from unnest(jobs, tokens, results) with ordinality as u(job, token, result, ord)
        where j.bucket = kernel.bucket_of(u.job) and j.id = u.job
          and (cardinality(held.ords) = cardinality(jobs) or u.ord = any (held.ords));
        perform queue._after_finish(held.ids, held.places, held.accounts, held.kinds, held.workers,
                                    held.idle, moment);
    end if;
    if 'ok' = all (codes) then
        return query select n, 'ok', 'completed' from generate_series(1, cardinality(codes)) n;
        return;
    end if;
    return query
    select u.ord::int, coalesce(u.code, l.code, 'not_found'),
           case u.code when 'ok' then 'completed' else l.status end
    from unnest(codes) with ordinality as u(code, ord)
    left join lateral (
        select j.status, case
            when u.code is not null then u.code
            when j.status = 'completed' and j.token = tokens[u.ord] then 'ok'
            when j.hold_id is not null and exists (
                select from queue.job_ready r where r.bucket = j.bucket and r.id = j.id
                and r.token = tokens[u.ord]) then 'usage_required'
            when queue._keep_late(j, results[u.ord], moment) then 'lease_lost' end as code
        from queue.job j
        where u.code is distinct from 'ok' and j.bucket = kernel.bucket_of(jobs[u.ord])
          and j.id = jobs[u.ord]) l on true
    order by u.ord;
end $$;
select kernel.plan_by_index('queue.finish');

-- Locks the leases that are still held, then their people's streams (and wallets, first, when
-- money may move; jobs priced by use are left out when it may not). ords: positions that may
-- proceed; busy: held by somebody's open transaction (only with wait = false); places: where the
-- rows are while they are locked; idle: streams with nothing to send.
create function queue._hold_leases(
    jobs uuid[], tokens uuid[], money boolean, wait boolean,
    out ords int[], out busy int[], out ids uuid[], out places tid[], out accounts uuid[],
    out kinds text[], out workers text[], out idle uuid[])
language plpgsql as $$
#variable_conflict use_variable
declare
    locked uuid[];
    seen   record;
begin
    -- The token is judged again on the row as it is when the lock is got.
    if wait then
        select array_agg(t.ord), array_agg(t.id), array_agg(t.ctid), array_agg(t.account_id),
               array_agg(t.kind), array_agg(t.worker)
        into ords, ids, places, accounts, kinds, workers
        from (select u.ord::int, r.id, r.ctid, r.account_id, r.kind, r.worker
              from unnest(jobs, tokens) with ordinality as u(job, token, ord)
              join queue.job_ready r on r.bucket = kernel.bucket_of(u.job) and r.id = u.job
                   and r.token = u.token and (money or not r.metered)
              order by r.id for update of r) t;
    else
        select array_agg(t.ord), array_agg(t.id), array_agg(t.ctid), array_agg(t.account_id),
               array_agg(t.kind), array_agg(t.worker)
        into ords, ids, places, accounts, kinds, workers
        from (select u.ord::int, r.id, r.ctid, r.account_id, r.kind, r.worker
              from unnest(jobs, tokens) with ordinality as u(job, token, ord)
              join queue.job_ready r on r.bucket = kernel.bucket_of(u.job) and r.id = u.job
                   and r.token = u.token and (money or not r.metered)
              order by r.id for update of r skip locked) t;
    end if;
    ords := coalesce(ords, '{}');
    busy := case when wait or cardinality(ords) = cardinality(jobs) then '{}'
            else queue._passed_over(jobs, tokens, ords, money) end;
    if money then
        seen := ledger._lock_idle(accounts, wait);
    else
        seen := outbox._lock_idle(accounts, wait);
    end if;
    locked := seen.locked; idle := seen.idle;
    if cardinality(locked) = cardinality(accounts) then
        return;             -- all, and nobody is named twice
    elsif cardinality(locked) = (select count(distinct a) from unnest(accounts) a) then
        return;
    end if;
    select busy || array_agg(x.o order by x.o) filter (where not x.locked),
           coalesce(array_agg(x.o order by x.o) filter (where x.locked), '{}'),
           array_agg(x.id order by x.o) filter (where x.locked),
           array_agg(x.place order by x.o) filter (where x.locked),
           array_agg(x.account order by x.o) filter (where x.locked),
           array_agg(x.kind order by x.o) filter (where x.locked),
           array_agg(x.worker order by x.o) filter (where x.locked)
    into busy, ords, ids, places, accounts, kinds, workers
    from (select u.*, u.account = any (locked) as locked
          from unnest(ords, ids, places, accounts, kinds, workers)
               as u(o, id, place, account, kind, worker)) x;
end $$;

-- Members whose lease is current and was not locked: it is held by somebody's open transaction.
create function queue._passed_over(jobs uuid[], tokens uuid[], locked int[], money boolean)
returns int[] language plpgsql as $$
begin
    return array(
        select u.ord::int from unnest(jobs, tokens) with ordinality as u(job, token, ord)
        join queue.job_ready r on r.bucket = kernel.bucket_of(u.job) and r.id = u.job
             and r.token = u.token and (money or not r.metered)
        where not u.ord = any (locked)
        order by u.ord);
end $$;

create function queue._after_finish(
    ids uuid[], places tid[], accounts uuid[], kinds text[], workers text[], idle uuid[],
    moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    seed     kernel.seed := kernel.new_seed();
    events   uuid[];
    payloads jsonb[];
begin
    -- By its place: the row is locked, so it is where it was, and no index need be asked again.
    delete from queue.job_ready r using unnest(ids, places) as i(id, place)
    where r.bucket = kernel.bucket_of(i.id) and r.ctid = i.place;
    delete from queue.job_chunk c using unnest(ids) i
    where c.bucket = kernel.bucket_of(i) and c.job_id = i;
    select array_agg(kernel.nth_id(seed.high, seed.low, u.n, kernel.bucket_of(u.i))),
           array_agg(jsonb_build_object('job', u.i, 'kind', u.kind))
    into events, payloads
    from unnest(ids, kinds) with ordinality as u(i, kind, n);
    insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status,
                             actor, at)
    select kernel.bucket_of(x.id), x.id, x.event, 'job', 'queue.finish', 'processing',
           'completed', x.worker, moment
    from unnest(ids, events, workers) as x(id, event, worker);
    perform outbox._append(accounts, events, array_fill('jobs.completed'::text,
        array[cardinality(ids)]), payloads, array_fill(null::text, array[cardinality(ids)]),
        moment, idle => idle);
    -- A finished job proves that the provider is back.
    update queue.kind k set paused_until = null, pause_reason = null
    where k.pause_reason is not null and k.kind = any (kinds);
end $$;

create function queue._keep_late(j queue.job, result jsonb, moment timestamptz)
returns boolean language plpgsql as $$
begin
    if coalesce(result ->> 'text', '') <> '' then
        insert into queue.artifact (bucket, job_id, n, name, media_type, late, data, at)
        select j.bucket, j.id, coalesce(max(a.n), 0) + 1, 'late.txt', 'text/plain; charset=utf-8',
               true, convert_to(result ->> 'text', 'UTF8'), moment
        from queue.artifact a where a.bucket = j.bucket and a.job_id = j.id
        having not coalesce(bool_or(a.late and a.data = convert_to(result ->> 'text', 'UTF8')),
                            false);
    end if;
    return true;
end $$;

-- Ends a job that will not be delivered, with its refund, in one transaction. The job_ready row
-- and the account's wallets are locked. Returns what was refunded.
create function queue._close(
    r queue.job_ready, verb text, to_status text, problem text, detail text, actor text,
    request text, moment timestamptz)
returns bigint language plpgsql as $$
#variable_conflict use_column
declare
    j      queue.job;
    event  uuid := kernel.new_id(r.bucket);
    seq    bigint;
begin
    select * into strict j from queue.job x where x.bucket = r.bucket and x.id = r.id for update;
    if j.charge_seq is not null then
        seq := ledger._refund(j.account_id, j.asset, j.charge_seq, 'job:' || j.id, event, moment,
                              actor, problem, coalesce(request, j.request_id));
    end if;
    if j.hold_id is not null then
        perform queue._release_reserved(j, actor, moment);
    end if;
    update queue.job x
    set status = to_status, error_code = problem, error_detail = detail, refund_seq = seq,
        token = r.token, finished_at = moment, version = x.version + 1
    where x.bucket = r.bucket and x.id = r.id;
    delete from queue.job_ready x where x.bucket = r.bucket and x.id = r.id;
    delete from queue.job_chunk c where c.bucket = r.bucket and c.job_id = r.id;
    perform audit._record('job', 'queue.' || verb, array[event], array[r.id], array[j.status],
        array[to_status], array[actor], array[problem], array[coalesce(request, j.request_id)],
        moment);
    perform outbox._append(array[j.account_id], array[event], array['jobs.' || to_status],
        array[jsonb_build_object('job', j.id, 'kind', j.kind, 'error', problem,
                                 'refunded', case when seq is null then 0 else j.price end)],
        array[coalesce(request, j.request_id)], moment);
    return case when seq is null then 0 else j.price end;
end $$;

-- Attempts that did not work. Permanent, or the last one allowed, or past the deadline: failed,
-- with the refund. Otherwise queued again after a back-off. Outcomes: ok (status says which;
-- again the same for the same holder), lease_lost, busy.
create function queue.fail(
    jobs uuid[], tokens uuid[], problems text[], details text[], permanents boolean[],
    retry_afters double precision[], wait boolean default true)
returns table (ord int, code text, status text, refunded bigint, run_at timestamptz)
language plpgsql as $$
#variable_conflict use_column
declare
    held   record;
    moment timestamptz;
begin
    held := queue._hold_leases(jobs, tokens, true, wait);
    moment := kernel.now();
    for i in 1 .. cardinality(jobs) loop
        ord := i; refunded := 0; run_at := null; status := null;
        if i = any (held.ords) then
            code := 'ok';
            select f.status, f.refunded, f.run_at into status, refunded, run_at
            from queue._fail_one(jobs[i], problems[i], details[i], permanents[i],
                                 retry_afters[i], moment) f;
        elsif i = any (held.busy) then
            code := 'busy';
        else
            select case when j.token = tokens[i] and j.status = 'failed' then 'ok'
                        else 'lease_lost' end, j.status,
                   case when j.refund_seq is not null then j.price else 0 end
            into code, status, refunded
            from queue.job j where j.bucket = kernel.bucket_of(jobs[i]) and j.id = jobs[i];
            code := coalesce(code, 'not_found');
        end if;
        return next;
    end loop;
end $$;
select kernel.plan_by_index('queue.fail');

create function queue._fail_one(
    job uuid, problem text, detail text, permanent boolean, retry_after double precision,
    moment timestamptz, out status text, out refunded bigint, out run_at timestamptz)
language plpgsql as $$
#variable_conflict use_column
declare
    r queue.job_ready;
    k queue.kind;
    most int;
begin
    select * into strict r from queue.job_ready x
    where x.bucket = kernel.bucket_of(job) and x.id = job;
    select * into strict k from queue.kind x where x.kind = r.kind;
    select j.attempts into strict most from queue.job j where j.bucket = r.bucket and j.id = r.id;
    if permanent or r.attempt >= most or r.deadline_at <= moment then
        status := 'failed';
        refunded := queue._close(r, 'fail', 'failed', problem, detail, r.worker, null, moment);
    else
        status := 'queued'; refunded := 0;
        run_at := queue._requeue(r, 'retry_later', true,
            queue._backoff(k, r.attempt, retry_after), problem, r.worker, moment);
    end if;
end $$;

-- The owner (or an admin: owners is null) calls it off. Outcomes: ok, not_found, job_finished.
create function queue.cancel(job uuid, owners uuid[], actor text, request text default null)
returns table (code text, status text, refunded bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    r queue.job_ready;
    j queue.job;
begin
    select * into r from queue.job_ready x
    where x.bucket = kernel.bucket_of(job) and x.id = job for update;
    select * into j from queue.job x where x.bucket = kernel.bucket_of(job) and x.id = job;
    if j.id is null or (owners is not null and not j.account_id = any (owners)) then
        return query select 'not_found', null::text, 0::bigint;
    elsif r.id is not null then
        perform ledger._lock(array[j.account_id], true);
        return query select 'ok', 'cancelled', queue._close(r, 'cancel', 'cancelled', 'cancelled',
            null, actor, request, kernel.now());
    else
        return query select case j.status when 'cancelled' then 'ok' else 'job_finished' end,
            j.status, case when j.refund_seq is not null then j.price else 0 end;
    end if;
end $$;
