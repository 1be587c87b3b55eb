-- The queue, last part: the sweeper, and what people read.
--
-- The sweeper is the one who notices silence. It looks at the rows whose due_at has passed: a
-- waiting job past its queue deadline expires; a leased one without a sign of life goes back to the
-- queue or, after its last attempt or past its overall deadline, fails with its refund. It carries
-- the lock into its own writes, so of a late finish and a sweep exactly one wins.

-- Moves up to at_most rows that are due, and says what became of each.
create function queue.sweep(at_most int)
returns table (id uuid, account_id uuid, kind text, attempt int, outcome text, refunded bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    moment timestamptz := kernel.now();
    due    queue.job_ready[];
    locked uuid[];
    r      queue.job_ready;
begin
    select array_agg(t) into due from (
        select x.* from queue.job_ready x
        where x.due_at <= moment order by x.due_at limit at_most for update skip locked) t;
    if due is null then
        return;
    end if;
    locked := ledger._lock((select array_agg(d.account_id) from unnest(due) d), false);
    foreach r in array due loop
        continue when not r.account_id = any (locked);     -- somebody is at it; next time
        id := r.id; account_id := r.account_id; kind := r.kind; attempt := r.attempt;
        select s.outcome, s.refunded into outcome, refunded from queue._sweep_one(r, moment) s;
        return next;
    end loop;
end $$;

create function queue._sweep_one(
    r queue.job_ready, moment timestamptz, out outcome text, out refunded bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    k    queue.kind;
    most int;
begin
    refunded := 0;
    if r.token is null then
        outcome := 'expired';
        refunded := queue._close(r, 'expire', 'failed', 'queue_deadline_exceeded',
            'No worker took the job in time.', 'sweeper', null, moment);
        return;
    end if;
    select * into strict k from queue.kind x where x.kind = r.kind;
    select j.attempts into strict most from queue.job j where j.bucket = r.bucket and j.id = r.id;
    if r.attempt < most and r.deadline_at > moment then
        outcome := 'requeued';
        perform queue._requeue(r, 'stall', true, queue._backoff(k, r.attempt, null),
                               'no sign of life from ' || r.worker, 'sweeper', moment);
    else
        outcome := 'failed';
        refunded := queue._close(r, 'stall', 'failed',
            case when r.deadline_at <= moment then 'deadline_exceeded' else 'stalled' end,
            'No sign of life from ' || r.worker || '.', 'sweeper', null, moment);
    end if;
end $$;

-- A job as people see it, with what is hot joined in. `charged` and `refunded` are whole amounts.
create view queue.job_seen as
    select j.bucket, j.id, j.account_id, j.kind, j.status, j.price,
           case when j.charge_seq is not null then j.price else j.captured end as charged,
           case when j.refund_seq is not null then j.price else 0 end as refunded,
           j.attempt, j.attempts, r.progress, j.result, j.error_code, j.error_detail, j.retry_of,
           j.payload, j.created_at, j.started_at, j.finished_at, j.version
    from queue.job j
    left join queue.job_ready r on r.bucket = j.bucket and r.id = j.id;

-- One job, if it belongs to one of the owners (null: to anybody).
create function queue.get(job uuid, owners uuid[])
returns setof queue.job_seen language sql stable as $$
    select s.* from queue.job_seen s
    where s.bucket = kernel.bucket_of(job) and s.id = job
      and (owners is null or s.account_id = any (owners))
$$;

-- Several jobs, whoever owns them: for a server that has judged who may see each.
create function queue.get_many(jobs uuid[])
returns setof queue.job_seen language sql stable as $$
    select s.* from unnest(jobs) as w(job)
    join queue.job_seen s on s.bucket = kernel.bucket_of(w.job) and s.id = w.job
$$;

-- The jobs of a person (an account and its aliases), newest first, those before a given id.
create function queue.list_of(owners uuid[], before uuid, at_most int)
returns setof queue.job_seen language sql stable as $$
    select found.* from unnest(owners) as o(owner)
    cross join lateral (
        select s.* from queue.job_seen s
        where s.bucket = kernel.bucket_of(o.owner) and s.account_id = o.owner
          and s.id < coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by s.id desc
        limit at_most) as found
    order by found.id desc
    limit at_most
$$;

-- Everybody's jobs, newest first, those before a given id: the newest of each bucket, merged.
create function queue.list_all(before uuid, at_most int)
returns setof queue.job_seen language sql stable as $$
    select found.* from generate_series(0, 255) as b(bucket)
    cross join lateral (
        select s.* from queue.job_seen s
        where s.bucket = b.bucket::smallint
          and s.id < coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
        order by s.id desc
        limit at_most) as found
    order by found.id desc
    limit at_most
$$;

-- The present state of several jobs, for everybody who watches any of them: one question for
-- all open event streams. Text beyond what a watcher has (by chunk number) comes with it.
create function queue.watch(jobs uuid[], chunks_seen int[])
returns table (id uuid, status text, version int, attempt int, progress jsonb, text_from int,
               chunk text, chunks int)
language sql stable as $$
    select j.id, j.status, j.version, j.attempt::int, r.progress, w.seen, c.text,
           coalesce(c.n, w.seen)
    from unnest(jobs, chunks_seen) as w(job, seen)
    join queue.job j on j.bucket = kernel.bucket_of(w.job) and j.id = w.job
    left join queue.job_ready r on r.bucket = j.bucket and r.id = j.id
    left join lateral (
        select string_agg(x.text, '' order by x.n) as text, max(x.n) as n
        from queue.job_chunk x
        where x.bucket = j.bucket and x.job_id = j.id and x.attempt = j.attempt and x.n > w.seen
    ) c on true
$$;

-- How many stand where, for metrics and the CLI: waiting and leased by kind, oldest first run.
create function queue.depth()
returns table (kind text, waiting bigint, leased bigint, oldest timestamptz,
               paused_until timestamptz, pause_reason text)
language sql stable as $$
    select k.kind, count(r.id) filter (where r.token is null),
           count(r.id) filter (where r.token is not null),
           min(r.run_at) filter (where r.token is null), k.paused_until, k.pause_reason
    from queue.kind k left join queue.job_ready r on r.kind = k.kind
    group by k.kind, k.paused_until, k.pause_reason
$$;

-- One job's whole story: the entries that paid, held and gave back, and every move with its reason.
create function queue.story(job uuid)
returns table (at timestamptz, what text, from_status text, to_status text, actor text,
               detail text, amount bigint, balance_after bigint)
language sql stable as $$
    select e.at, e.action, e.from_status, e.to_status, e.actor,
           concat_ws(' ', e.new_value, e.reason), null::bigint, null::bigint
    from audit.event e where e.bucket = kernel.bucket_of(job) and e.entity_id = job
    union all
    select n.at, 'ledger.' || n.kind, null, null, n.actor, n.reason, n.amount, n.balance_after
    from queue.job j
    join ledger.entry n on n.bucket = j.bucket and n.account_id = j.account_id
         and n.asset = j.asset and n.seq in (j.charge_seq, j.refund_seq)
    where j.bucket = kernel.bucket_of(job) and j.id = job
    union all
    select n.at, 'ledger.' || n.kind, null, null, n.actor, n.reason, n.amount, n.balance_after
    from queue.job j
    join ledger.entry n on n.bucket = j.bucket and n.account_id = j.account_id
         and n.cause = 'hold:' || j.hold_id and n.kind <> 'charge'
    where j.bucket = kernel.bucket_of(job) and j.id = job
    order by 1
$$;
