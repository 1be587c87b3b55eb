-- Verify, second part: jobs, moves, effects, walls.

-- No job is lost: what is not finished waits or is leased, what is finished does neither.
create function verify._check_jobs_have_their_place(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.job) filter (where x.bad)
    from (
        select coalesce(j.id, r.id)::text as job,
               case when j.id is null then true
                    when j.status = 'queued' then r.id is null or r.token is not null
                    when j.status = 'processing' then r.id is null or r.token is null
                    else r.id is not null end as bad
        from (select * from queue.job j where j.bucket between first and last) j
        full join (select * from queue.job_ready r
                   where r.bucket between first and last and r.kind <> '') r
        on r.bucket = j.bucket and r.id = j.id) x
$$;
comment on function verify._check_jobs_have_their_place is
    'a queued job waits, a processing one is leased, a finished one does neither: none is lost';

-- Every move in the audit is an edge of its machine; hand-written SQL is held to the same edges.
create function verify._check_moves_are_declared(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select coalesce(sum(x.n), 0)::bigint, coalesce(sum(x.n) filter (where x.bad), 0)::bigint,
           min(x.move) filter (where x.bad)
    from (
        select m.n, format('%s: %s → %s', m.entity, m.from_status, m.to_status) as move,
               not exists (select from transitions.edge e where e.machine = m.entity
                           and e.from_status = m.from_status and e.to_status = m.to_status) as bad
        from (select v.entity, v.from_status, v.to_status, count(*) as n
              from audit.event v
              where v.bucket between first and last and v.from_status is not null
                and v.to_status is not null and v.from_status <> v.to_status
                and v.entity in (select t.machine from transitions.machine t)
              group by v.entity, v.from_status, v.to_status) m) x
$$;
comment on function verify._check_moves_are_declared is
    'every move in the audit went along a declared edge';

-- The trail of a job ends where the job stands, each move where the one before ended.
create function verify._check_job_trails_are_whole(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select j.id, t.status is distinct from j.status or t.broken as bad
        from queue.job j
        left join (
            select s.bucket, s.entity_id, max(s.to_status) filter (where s.back = 1) as status,
                   bool_or(s.from_status is distinct from s.before) as broken
            from (select v.bucket, v.entity_id, v.from_status, v.to_status,
                         lag(v.to_status) over w as before,
                         row_number() over (partition by v.bucket, v.entity_id
                                            order by v.at desc, v.id desc) as back
                  from audit.event v
                  where v.bucket between first and last and v.entity = 'job'
                    and v.to_status is not null
                  window w as (partition by v.bucket, v.entity_id order by v.at, v.id)) s
            group by s.bucket, s.entity_id) t
        on t.bucket = j.bucket and t.entity_id = j.id
        where j.bucket between first and last) x
$$;
comment on function verify._check_job_trails_are_whole is
    'each job has its whole trail in the audit, and stands where the trail ends';

-- Effects leave in order: settled up to done_seq, waiting after it, nothing missing between.
create function verify._check_effects_are_in_order(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select coalesce(sum(x.n), 0)::bigint, count(*) filter (where x.bad),
           min(x.stream::text) filter (where x.bad)
    from (
        select s.stream, coalesce(e.n, 0) as n,
               coalesce(e.n, 0) <> coalesce(e.top, 0) or coalesce(e.top, 0) < s.done_seq
               or coalesce(e.early, false) or coalesce(e.late, false)
               or (s.done_seq < e.top and not s.blocked and s.ready_at is null) as bad
        from outbox.stream s
        left join lateral (
            select count(*) as n, max(e.seq) as top,
                   bool_or(e.seq <= s.done_seq and e.status in ('READY', 'DEAD')) as late,
                   bool_or(e.seq > s.done_seq and e.status not in ('READY', 'DEAD')) as early
            from outbox.effect e where e.bucket = s.bucket and e.stream = s.stream) e on true
        where s.bucket between first and last) x
$$;
comment on function verify._check_effects_are_in_order is
    'in every stream nothing is missing, left early, or was passed by: no effect is lost';

-- Every end of a job was announced, once.
create function verify._check_ends_are_announced(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select j.id, coalesce(e.n, 0) <> 1 as bad
        from queue.job j
        left join (
            select e.bucket, e.payload ->> 'job' as job, e.topic, count(*) as n
            from outbox.effect e
            where e.bucket between first and last
              and e.topic in ('jobs.completed', 'jobs.failed', 'jobs.cancelled')
            group by e.bucket, e.payload ->> 'job', e.topic) e
        on e.bucket = j.bucket and e.job = j.id::text and e.topic = 'jobs.' || j.status
        where j.bucket between first and last
          and j.status in ('completed', 'failed', 'cancelled')) x
$$;
comment on function verify._check_ends_are_announced is
    'every end of a job has its one effect';

-- The walls stand: each machine's guards, the triggers that keep entries and audit as they are.
create function verify._check_guards_stand(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    with standing as (      -- by name: whoever verifies may have no rights on a user's schema
        select n.nspname || '.' || c.relname as entity, t.tgname as guard, p.prosrc as body
        from pg_catalog.pg_trigger t
        join pg_catalog.pg_class c on c.oid = t.tgrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        join pg_catalog.pg_proc p on p.oid = t.tgfoid
        where t.tgenabled in ('O', 'A'))
    select count(*), count(*) filter (where s.guard is null),
           min(x.entity || ' ' || x.guard) filter (where s.guard is null)
    from (
        select m.entity, g.guard from transitions.machine m
        cross join (values ('guard_start'), ('guard_move')) as g(guard)
        union all       -- what traces a move by hand: the guard, or a trigger of its own
        select m.entity, 'trace_raw' from transitions.machine m
        where not exists (select from standing g where g.entity = m.entity
                          and g.guard = 'guard_move' and position('audit._trace_raw' in g.body) > 0)
        union all
        select e.entity, g.guard from (values ('ledger.entry'), ('audit.event')) as e(entity)
        cross join (values ('append_only'), ('never_truncated')) as g(guard)) x
    left join standing s on s.entity = x.entity and s.guard = x.guard
    where first = 0
$$;
comment on function verify._check_guards_stand is
    'the guards of every machine and of entries and audit stand, and are enabled';
