-- Courses: finishing a step moves the step, its day and its course, or nothing at all.
--
-- The hard part is the last two steps finished at the same moment: each would see the other
-- unfinished, and the day would stay open for ever. So the enrolment's row is locked first, and
-- everything below it is written under that lock. The roll-up adds one to counters instead of
-- counting steps, so the last step of a thousand costs what the first of ten does; `verify` counts.
--
-- Lock order: enrolment, then the person's stream, then its timers.

select transitions.declare('enrolment', 'courses.enrolment', $$
    NOT_STARTED, IN_PROGRESS, COMPLETED
    roll_up: NOT_STARTED → IN_PROGRESS | COMPLETED (roll-up)
    roll_up: IN_PROGRESS → COMPLETED (roll-up)
    restart: IN_PROGRESS | COMPLETED → NOT_STARTED (its person, admin)
$$);

select transitions.declare('enrolment_day', 'courses.day', $$
    NOT_STARTED, IN_PROGRESS, COMPLETED
    roll_up: NOT_STARTED → IN_PROGRESS | COMPLETED (roll-up)
    roll_up: IN_PROGRESS → COMPLETED (roll-up)
$$);

select transitions.declare('enrolment_step', 'courses.step', $$
    NOT_STARTED, IN_PROGRESS, COMPLETED, SKIPPED
    start:    NOT_STARTED → IN_PROGRESS (its person, admin) as courses.start_step
    complete: NOT_STARTED | IN_PROGRESS → COMPLETED (its person, admin) as courses.complete_step
    skip:     NOT_STARTED | IN_PROGRESS → SKIPPED (its person, admin) as courses.skip_step
$$);

-- Begins a step. Outcomes of all three: ok (`changed` says whether anything was), not_found,
-- step_locked (with what is missing), step_finished (finished the other way).
create function courses.start_step(
    enrolment uuid, step uuid, owners uuid[], actor text, request text default null,
    language text default 'en')
returns table (code text, changed boolean, step_status text, day int, day_status text,
               course_status text, day_steps int, day_finished int, next_index int, done int,
               required int, revision int, missing jsonb)
language plpgsql as $$
begin
    return query select * from courses._move_step('courses.start_step', 'IN_PROGRESS', enrolment,
        step, owners, actor, null, request, language);
end $$;
select kernel.plan_by_index('courses.start_step');

-- Finishes a step; starting it is implied.
create function courses.complete_step(
    enrolment uuid, step uuid, owners uuid[], actor text, request text default null,
    language text default 'en')
returns table (code text, changed boolean, step_status text, day int, day_status text,
               course_status text, day_steps int, day_finished int, next_index int, done int,
               required int, revision int, missing jsonb)
language plpgsql as $$
begin
    return query select * from courses._move_step('courses.complete_step', 'COMPLETED', enrolment,
        step, owners, actor, null, request, language);
end $$;
select kernel.plan_by_index('courses.complete_step');

-- Passes a step by, for a reason; it counts as finished.
create function courses.skip_step(
    enrolment uuid, step uuid, owners uuid[], actor text, reason text,
    request text default null, language text default 'en')
returns table (code text, changed boolean, step_status text, day int, day_status text,
               course_status text, day_steps int, day_finished int, next_index int, done int,
               required int, revision int, missing jsonb)
language plpgsql as $$
begin
    return query select * from courses._move_step('courses.skip_step', 'SKIPPED', enrolment,
        step, owners, actor, reason, request, language);
end $$;
select kernel.plan_by_index('courses.skip_step');

create function courses._move_step(
    verb text, to_status text, enrolment uuid, step uuid, owners uuid[], actor text, reason text,
    request text, language text)
returns table (code text, changed boolean, step_status text, day int, day_status text,
               course_status text, day_steps int, day_finished int, next_index int, done int,
               required int, revision int, missing jsonb)
language plpgsql as $$
#variable_conflict use_column
declare
    e      courses.enrolment;
    d      courses.day;
    s      courses.step;
    moment timestamptz;
    rolled record;
begin
    changed := false;
    e := courses._lock_enrolment(enrolment, owners);
    if e.id is not null then
        select * into s from courses.step x where x.bucket = e.bucket and x.id = step;
    end if;
    if s.id is null or s.enrolment_id <> e.id or s.attempt <> e.attempt or s.retired then
        code := 'not_found';
        return next;
        return;
    end if;
    moment := kernel.now();
    if s.status in ('COMPLETED', 'SKIPPED') then
        code := case when to_status in (s.status, 'IN_PROGRESS') then 'ok'
                     else 'step_finished' end;
    elsif s.status = to_status then
        code := 'ok';
    else
        missing := courses._missing(e, s, language);
        code := case when missing is null then 'ok' else 'step_locked' end;
        changed := missing is null;
    end if;
    select * into strict d from courses.day x where x.bucket = e.bucket and x.id = s.day_id;
    if changed then
        rolled := courses._roll_up(e, d, s, verb, to_status, reason, actor, request, moment);
        e := rolled.e; d := rolled.d; s.status := to_status;
    end if;
    step_status := s.status; day := d.number; day_status := d.status; course_status := e.status;
    day_steps := d.steps; day_finished := d.finished; next_index := d.current_step_index;
    done := e.done; required := e.required; revision := e.revision;
    return next;
end $$;
