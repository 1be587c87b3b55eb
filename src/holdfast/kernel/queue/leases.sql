-- The queue, second part: leases. Claim gives a token, a heartbeat keeps it, everything that
-- returns a job to the queue takes it away.

-- Leases up to `at_most` jobs of these kinds to one worker, in order (priority, run_at, id).
-- after_*[i] is the caller's low-water key for kinds[i] (nulls: from the true head). When nothing
-- is found and say_idle is set, the worker is marked as waiting for a NOTIFY.
-- The plans are fixed by settings: from the index, job by job. The estimate for a LIMIT that is a
-- parameter is a tenth of the table, which would choose a hash join over all jobs ever made.
create function queue.claim(
    worker text, kinds text[], at_most int, after_priorities smallint[],
    after_runs timestamptz[], after_ids uuid[], say_idle boolean default false)
returns table (id uuid, account_id uuid, kind text, payload jsonb, price bigint, attempt int,
               attempts int, token uuid, due_at timestamptz, deadline_at timestamptz,
               lease_seconds double precision, priority smallint, run_at timestamptz,
               request_id text, metered boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    moment timestamptz := kernel.now();
    k      queue.kind;
    room   int := at_most;
    got    int;
    p      smallint;
    first  smallint;
begin
    for i in 1 .. cardinality(kinds) loop
        select * into k from queue.kind x where x.kind = kinds[i];
        continue when k.kind is null or k.paused_until > moment;
        if k.pause_reason is not null then      -- a pause ran out: one job tries the provider
            continue when not queue._probe(k.kind, moment);
            room := least(room, 1);
        end if;
        first := after_priorities[i];
        p := coalesce(first, (select min(r.priority) from queue.job_ready r
                              where r.kind = k.kind and r.token is null));
        while room > 0 and p is not null loop
            return query select * from queue._claim_kind(worker, k, p, room, moment,
                case when p = first then after_runs[i] end,
                case when p = first then after_ids[i] end);
            get diagnostics got = row_count;
            room := room - got;
            exit when room <= 0;
            p := (select min(r.priority) from queue.job_ready r
                  where r.kind = k.kind and r.token is null and r.priority > p);
        end loop;
        exit when room <= 0;
    end loop;
    if room = at_most and say_idle then
        insert into queue.idle values (worker, moment)
        on conflict on constraint idle_pkey do update set at = excluded.at;
    end if;
end $$;
select kernel.plan_by_index('queue.claim');

-- The token is an id like any other, and names the claim's audit row. What was picked is locked, so
-- it is found again by its place. (A row that moved between the look and the lock is passed over
-- and stays in the queue: nothing but an end or another claim moves a row that waits.)
create function queue._claim_kind(
    worker text, k queue.kind, of_priority smallint, at_most int, moment timestamptz,
    after_run timestamptz, after_id uuid)
returns table (id uuid, account_id uuid, kind text, payload jsonb, price bigint, attempt int,
               attempts int, token uuid, due_at timestamptz, deadline_at timestamptz,
               lease_seconds double precision, priority smallint, run_at timestamptz,
               request_id text, metered boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    seed kernel.seed := kernel.new_seed();
begin
    return query
    with picked as materialized (
        select r.bucket, r.ctid as place from queue.job_ready r
        where r.kind = k.kind and r.token is null and r.priority = of_priority
          and r.run_at <= moment and r.due_at > moment
          and (r.run_at, r.id) > (coalesce(after_run, '-infinity'),
                                  coalesce(after_id, '00000000-0000-0000-0000-000000000000'))
        order by r.priority, r.run_at, r.id
        limit at_most
        for update skip locked),
    counted as materialized (
        select p.bucket, p.place, kernel.nth_id(seed.high, seed.low, row_number() over (), p.bucket)
               as token
        from picked p),
    leased as (
        update queue.job_ready r
        set token = p.token, worker = _claim_kind.worker, attempt = r.attempt + 1,
            progress = null,
            deadline_at = coalesce(r.deadline_at,
                                   moment + make_interval(secs => k.deadline_seconds)),
            due_at = moment + make_interval(secs => k.lease_seconds)
        from counted p where r.bucket = p.bucket and r.ctid = p.place
        returning r.bucket, r.id, r.attempt, r.token, r.due_at, r.deadline_at, r.priority,
                  r.run_at, r.metered),
    moved as (
        update queue.job j
        set status = 'processing', attempt = l.attempt, version = j.version + 1,
            started_at = coalesce(j.started_at, moment)
        from leased l where j.bucket = l.bucket and j.id = l.id
        returning j.bucket, j.id, j.account_id, j.kind, j.payload, j.price, j.attempt, j.attempts,
                  l.token, l.due_at, l.deadline_at, l.priority, l.run_at, j.request_id,
                  l.metered),
    traced as (
        insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status,
                                 actor, new_value, request_id, at)
        select m.bucket, m.id, m.token, 'job', 'queue.claim', 'queued',
               'processing', _claim_kind.worker, m.attempt::text, m.request_id, moment
        from moved m)
    select m.id, m.account_id, m.kind, m.payload, m.price, m.attempt::int, m.attempts::int,
           m.token, m.due_at, m.deadline_at, k.lease_seconds, m.priority, m.run_at, m.request_id,
           m.metered
    from moved m
    order by m.run_at, m.id;
end $$;

-- After a pause ran out: one prober at a time, for one lease.
create function queue._probe(called text, moment timestamptz) returns boolean
language plpgsql as $$
begin
    perform 1 from queue.kind x
    where x.kind = called and x.paused_until <= moment for update skip locked;
    if not found then
        return false;
    end if;
    update queue.kind x set paused_until = moment + make_interval(secs => x.lease_seconds)
    where x.kind = called;
    return true;
end $$;

-- Signs of life: extends leases, shows progress, appends text. Outcomes: ok; lease_lost; busy
-- (somebody is deciding about the job right now); deadline_exceeded (the whole job's time is up:
-- not extended, the sweeper ends it).
create function queue.heartbeat(
    jobs uuid[], tokens uuid[], progresses jsonb[], chunks text[], wait boolean default false)
returns table (ord int, code text, due_at timestamptz)
language plpgsql as $$
#variable_conflict use_column
declare
    moment timestamptz;
    locked uuid[];
begin
    select array_agg(t.id) into locked from (
        select r.id from unnest(jobs, tokens) as u(job, token)
        join queue.job_ready r on r.bucket = kernel.bucket_of(u.job) and r.id = u.job
             and r.token = u.token
        order by r.id for update of r skip locked) t;
    moment := kernel.now();
    insert into queue.job_chunk (bucket, job_id, attempt, n, text)
    select r.bucket, r.id, r.attempt,
           coalesce((select max(c.n) from queue.job_chunk c where c.bucket = r.bucket
                     and c.job_id = r.id and c.attempt = r.attempt), 0) + 1, u.chunk
    from unnest(jobs, tokens, chunks) as u(job, token, chunk)
    join queue.job_ready r on r.bucket = kernel.bucket_of(u.job) and r.id = u.job
         and r.token = u.token
    where u.chunk <> '' and r.id = any (locked) and r.deadline_at > moment;
    return query
    with beaten as (
        update queue.job_ready r
        set due_at = least(r.deadline_at, moment + make_interval(secs => k.lease_seconds)),
            progress = coalesce(u.progress, r.progress)
        from unnest(jobs, tokens, progresses) with ordinality as u(job, token, progress, ord)
        join queue.job_ready o on o.bucket = kernel.bucket_of(u.job) and o.id = u.job
        join queue.kind k on k.kind = o.kind
        where r.bucket = o.bucket and r.id = o.id and r.token = u.token
          and r.id = any (locked) and r.deadline_at > moment
        returning u.ord, r.due_at)
    select u.ord::int,
           case when b.ord is not null then 'ok'
                when r.token is distinct from u.token then 'lease_lost'
                when r.id = any (locked) then 'deadline_exceeded'
                else 'busy' end,
           b.due_at
    from unnest(jobs, tokens) with ordinality as u(job, token, ord)
    left join beaten b on b.ord = u.ord
    left join queue.job_ready r on r.bucket = kernel.bucket_of(u.job) and r.id = u.job
    order by u.ord;
end $$;
select kernel.plan_by_index('queue.heartbeat');

-- Puts a leased job back. `counts` tells whether the attempt counts.
create function queue._requeue(
    r queue.job_ready, verb text, counts boolean, delay_seconds double precision, why text,
    actor text, moment timestamptz)
returns timestamptz language plpgsql as $$
#variable_conflict use_column
declare
    starts timestamptz := moment + make_interval(secs => delay_seconds);
    k      queue.kind;
    j      queue.job;
begin
    select * into strict k from queue.kind x where x.kind = r.kind;
    update queue.job_ready x
    set token = null, worker = null, run_at = starts, progress = null,
        attempt = case when counts then x.attempt else x.attempt - 1 end,
        due_at = starts + make_interval(secs => k.queue_deadline_seconds)
    where x.bucket = r.bucket and x.id = r.id;
    update queue.job x set status = 'queued', version = x.version + 1
    where x.bucket = r.bucket and x.id = r.id
    returning * into strict j;
    delete from queue.job_chunk c where c.bucket = r.bucket and c.job_id = r.id;
    perform audit._record('job', 'queue.' || verb, array[kernel.new_id(r.bucket)], array[r.id],
        array['processing'], array['queued'], array[actor], array[why], array[j.request_id],
        moment);
    perform queue._wake();
    return starts;
end $$;

-- 1 s × 4ⁿ with jitter, at most ten minutes; a provider's wish to wait is heard up to there.
create function queue._backoff(k queue.kind, attempt int, asked_seconds double precision)
returns double precision language sql volatile as $$
    select least(600, greatest(
        k.backoff_seconds * 4 ^ least(attempt - 1, 10) * (0.75 + random() * 0.5),
        coalesce(asked_seconds, 0)))
$$;

-- A graceful stop: leases go back, no attempt is counted.
create function queue.hand_back(jobs uuid[], tokens uuid[])
returns table (ord int, code text) language plpgsql as $$
#variable_conflict use_column
declare
    m record;
    r queue.job_ready;
begin
    for m in select u.job, u.token, u.ord from unnest(jobs, tokens) with ordinality
             as u(job, token, ord) order by u.job
    loop
        select * into r from queue.job_ready x
        where x.bucket = kernel.bucket_of(m.job) and x.id = m.job and x.token = m.token
        for update;
        ord := m.ord; code := 'lease_lost';
        if found then
            perform queue._requeue(r, 'hand_back', false, 0, 'the worker stopped', r.worker,
                                   kernel.now());
            code := 'ok';
        end if;
        return next;
    end loop;
end $$;

-- The provider of a kind is out of service: the job goes back uncounted, its kind pauses.
-- `alert` is true for exactly one caller a pause.
create function queue.pause(job uuid, token uuid, seconds double precision, why text)
returns table (code text, alert boolean, until timestamptz) language plpgsql as $$
#variable_conflict use_variable
declare
    r      queue.job_ready;
    k      queue.kind;
    moment timestamptz;
begin
    select * into r from queue.job_ready x
    where x.bucket = kernel.bucket_of(job) and x.id = job and x.token = pause.token for update;
    if not found then
        return query select 'lease_lost', false, null::timestamptz;
        return;
    end if;
    select * into strict k from queue.kind x where x.kind = r.kind for update;
    moment := kernel.now();
    perform queue._requeue(r, 'pause', false, 0, why, r.worker, moment);
    update queue.kind x
    set paused_until = moment + make_interval(secs => seconds), pause_reason = why
    where x.kind = r.kind;
    return query select 'ok', k.pause_reason is null, moment + make_interval(secs => seconds);
end $$;
