-- Courses, moves: an enrolment follows its content to the version published last.
--
-- What is finished stays finished: a finished step counts wherever it stands now, a step that the
-- new version adds to a finished day is optional there, and a finished course is not moved at all.
-- A step that is gone is retired, so that what was done keeps its date; when the last open step of
-- a day goes, the day is finished by the move.

-- Moves an enrolment; a rehearsal says what would happen and leaves nothing. Outcomes: ok
-- (`changed` false: it is there already, or finished), not_found.
create function courses.move(
    enrolment uuid, owners uuid[], actor text, request text default null,
    rehearsal boolean default false)
returns table (code text, changed boolean, version int, steps_added int, steps_removed int,
               days_finished int, finished boolean)
language plpgsql as $$
#variable_conflict use_column
declare
    e      courses.enrolment := courses._lock_enrolment(enrolment, owners);
    moment timestamptz := kernel.now();
    moved  record;
begin
    code := case when e.id is null then 'not_found' else 'ok' end;
    changed := false; version := e.version; steps_added := 0; steps_removed := 0;
    days_finished := 0; finished := e.status = 'COMPLETED';
    if e.id is not null and not finished then
        select c.version into strict version from courses.course c where c.slug = e.slug;
        changed := version <> e.version;
    end if;
    if changed then
        begin
            moved := courses._replan(e, version, actor, request, moment);
            steps_added := moved.added; steps_removed := moved.removed;
            days_finished := moved.days; finished := moved.finished;
            if rehearsal then
                raise exception 'rehearsal' using errcode = 'KH900';
            end if;
        exception when sqlstate 'KH900' then null;
        end;
    end if;
    return next;
end $$;

create function courses._replan(
    e courses.enrolment, becomes int, actor text, request text, moment timestamptz,
    out added int, out removed int, out days int, out finished boolean)
language plpgsql as $$
#variable_conflict use_variable
declare
    was    text := e.status;
    before jsonb;
    ended  courses.day[];
begin
    select jsonb_object_agg(d.id, d.status) into before from courses.day d
    where d.bucket = e.bucket and d.enrolment_id = e.id and d.attempt = e.attempt;
    perform courses._replan_days(e, becomes);
    select r.added, r.removed into added, removed from courses._replan_steps(e, becomes) r;
    perform courses._recount_days(e, moment);
    e := courses._recount(e, becomes, moment);
    select array_agg(d order by d.number) into ended from courses.day d
    where d.bucket = e.bucket and d.enrolment_id = e.id and d.attempt = e.attempt
      and not d.retired and d.status = 'COMPLETED'
      and coalesce(before ->> d.id::text, 'NOT_STARTED') <> 'COMPLETED';
    days := coalesce(cardinality(ended), 0);
    finished := e.status = 'COMPLETED';
    perform courses._trace(
        array_fill('enrolment_day'::text, array[days]),
        array(select u.id from unnest(ended) u),
        array(select coalesce(before ->> u.id::text, 'NOT_STARTED') from unnest(ended) u),
        array_fill('COMPLETED'::text, array[days]),
        array_fill('courses.roll_up'::text, array[days]), actor, request, moment);
    insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status, actor,
                             new_value, request_id, at)
    values (e.bucket, e.id, kernel.new_id(e.bucket), 'enrolment', 'courses.move', was, e.status,
            actor, becomes::text, request, moment);
    if finished or days > 0 then
        perform courses._announce(e, array(select u.number::int from unnest(ended) u), was,
                                  request, moment);
    end if;
end $$;

create function courses._replan_days(e courses.enrolment, becomes int)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    seed kernel.seed := kernel.new_seed();
begin
    update courses.day d set retired = not exists (
        select from courses.plan_day p
        where p.slug = e.slug and p.version = becomes and p.key = d.key)
    where d.bucket = e.bucket and d.enrolment_id = e.id and d.attempt = e.attempt;
    -- A day that comes back open is counted again below; until then it has nothing that counts.
    insert into courses.day (bucket, id, enrolment_id, attempt, number, key, steps, required)
    select e.bucket, kernel.nth_id(seed.high, seed.low, p.number, e.bucket), e.id, e.attempt,
           p.number, p.key, 1, 1
    from courses.plan_day p
    where p.slug = e.slug and p.version = becomes
      and not exists (select from courses.day d where d.bucket = e.bucket
                      and d.enrolment_id = e.id and d.attempt = e.attempt and d.key = p.key);
    update courses.day d set number = p.number from courses.plan_day p
    where p.slug = e.slug and p.version = becomes and p.key = d.key
      and d.bucket = e.bucket and d.enrolment_id = e.id and d.attempt = e.attempt;
end $$;

create function courses._replan_steps(
    e courses.enrolment, becomes int, out added int, out removed int)
language plpgsql as $$
#variable_conflict use_variable
declare
    seed kernel.seed := kernel.new_seed();
begin
    update courses.step s set retired = true
    where s.bucket = e.bucket and s.enrolment_id = e.id and s.attempt = e.attempt
      and not s.retired and not exists (
          select from courses.plan_step p
          where p.slug = e.slug and p.version = becomes and p.key = s.key);
    get diagnostics removed = row_count;
    with target as (
        select p.*, d.id as day_id, d.status = 'COMPLETED' as day_finished
        from courses.plan_step p
        join courses.plan_day q
            on q.slug = p.slug and q.version = p.version and q.number = p.day
        join courses.day d on d.bucket = e.bucket and d.enrolment_id = e.id
             and d.attempt = e.attempt and d.key = q.key
        where p.slug = e.slug and p.version = becomes),
    kept as (
        update courses.step s
        set day_id = t.day_id, day = t.day, number = t.number, has_needs = t.needs <> '{}',
            retired = false,
            required = t.required and (not t.day_finished
                                       or s.status in ('COMPLETED', 'SKIPPED'))
        from target t
        where s.bucket = e.bucket and s.enrolment_id = e.id and s.attempt = e.attempt
          and s.key = t.key
        returning s.key)
    insert into courses.step (bucket, id, enrolment_id, attempt, day_id, day, number, key,
                              required, has_needs)
    select e.bucket, kernel.nth_id(seed.high, seed.low, row_number() over (), e.bucket), e.id,
           e.attempt, t.day_id, t.day, t.number, t.key, t.required and not t.day_finished,
           t.needs <> '{}'
    from target t
    where not exists (select from courses.step s where s.bucket = e.bucket
                      and s.enrolment_id = e.id and s.attempt = e.attempt and s.key = t.key);
    get diagnostics added = row_count;
end $$;

-- Counts the days of the present plan from their steps; a finished one stays finished.
create function courses._recount_days(e courses.enrolment, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    update courses.day d
    set steps = c.steps, finished = c.finished, required = c.required, done = c.done,
        status = case when c.done = c.required or d.status = 'COMPLETED' then 'COMPLETED'
                      when c.begun > 0 or d.status = 'IN_PROGRESS' then 'IN_PROGRESS'
                      else 'NOT_STARTED' end,
        current_step_index = case when c.done = c.required or d.status = 'COMPLETED'
                                  then c.steps else c.first_open - 1 end,
        started_at = case when c.begun > 0 then coalesce(d.started_at, moment)
                          else d.started_at end,
        completed_at = case when c.done = c.required or d.status = 'COMPLETED'
                            then coalesce(d.completed_at, moment) end
    from (select s.day_id, count(*) as steps,
                 count(*) filter (where s.status in ('COMPLETED', 'SKIPPED')) as finished,
                 count(*) filter (where s.status <> 'NOT_STARTED') as begun,
                 count(*) filter (where s.required) as required,
                 count(*) filter (where s.required and s.status in ('COMPLETED', 'SKIPPED'))
                     as done,
                 min(s.number) filter (where s.status in ('NOT_STARTED', 'IN_PROGRESS'))
                     as first_open
          from courses.step s
          where s.bucket = e.bucket and s.enrolment_id = e.id and s.attempt = e.attempt
            and not s.retired
          group by s.day_id) c
    where d.bucket = e.bucket and d.id = c.day_id;
end $$;

create function courses._recount(e courses.enrolment, becomes int, moment timestamptz)
returns courses.enrolment language plpgsql as $$
#variable_conflict use_variable
declare
    next record;
    c    record;
begin
    next := courses._next_open(e, 0, 0);
    select count(*) as days, count(*) filter (where d.status = 'COMPLETED') as days_done,
           sum(d.required) as required, sum(d.done) as done
    into c from courses.day d
    where d.bucket = e.bucket and d.enrolment_id = e.id and d.attempt = e.attempt
      and not d.retired;
    update courses.enrolment x
    set version = becomes, required = c.required, done = c.done, days = c.days,
        days_done = c.days_done, next_day = next.f1, next_number = next.f2,
        status = case when c.days = c.days_done then 'COMPLETED' else x.status end,
        completed_at = case when c.days = c.days_done then moment end,
        revision = x.revision + 1
    where x.bucket = e.bucket and x.id = e.id
    returning x.* into e;
    return e;
end $$;
