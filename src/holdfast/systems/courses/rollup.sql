-- Courses, second part: the roll-up. Called under the enrolment's lock; every status here is moved
-- by nothing else.

-- Locks an enrolment that is one of these people's (owners null: anybody's); empty when there is
-- none such.
create function courses._lock_enrolment(enrolment uuid, owners uuid[])
returns courses.enrolment language plpgsql as $$
declare
    e courses.enrolment;
begin
    select * into e from courses.enrolment x
    where x.bucket = kernel.bucket_of(enrolment) and x.id = enrolment for update;
    if owners is not null and not e.account_id = any (owners) then
        return null;
    end if;
    return e;
end $$;

-- Moves a step, its day and its enrolment; gives the new rows of the last two.
create function courses._roll_up(
    inout e courses.enrolment, inout d courses.day, s courses.step, verb text, to_status text,
    reason text, actor text, request text, moment timestamptz)
language plpgsql as $$
#variable_conflict use_variable
declare
    finishes int := case when to_status = 'IN_PROGRESS' then 0 else 1 end;
    counts   int := case when s.required then finishes else 0 end;
    day_was  text := d.status;
    was      text := e.status;
    before   date := e.last_on;
    zone     text;
    today    date;
begin
    if to_status = 'COMPLETED' then
        zone := outbox._zone_of(e.account_id);
        today := (moment at time zone zone)::date;
    end if;
    update courses.step x
    set status = to_status, started_at = coalesce(x.started_at, moment), skip_reason = reason,
        completed_at = case when to_status = 'COMPLETED' then moment end, completed_on = today,
        actor = case when finishes = 1 then actor end
    where x.bucket = s.bucket and x.id = s.id;
    update courses.day x
    set finished = x.finished + finishes, done = x.done + counts,
        status = case when x.done + counts = x.required then 'COMPLETED' else 'IN_PROGRESS' end,
        current_step_index = case
            when x.done + counts = x.required then x.steps
            when finishes = 1 and s.number - 1 = x.current_step_index
                then courses._next_index(x, s.number)
            else x.current_step_index end,
        started_at = coalesce(x.started_at, moment),
        completed_at = case when x.done + counts = x.required
                            then coalesce(x.completed_at, moment) end
    where x.bucket = d.bucket and x.id = d.id
    returning x.* into d;
    e := courses._advance(e, s, counts,
        case when d.status = 'COMPLETED' and day_was <> 'COMPLETED' then 1 else 0 end,
        today, zone, moment);
    if today is distinct from before and today is not null then
        perform courses._be_active(e, today, zone, moment);
    end if;
    perform courses._trace(array['enrolment_step', 'enrolment_day', 'enrolment'],
        array[s.id, d.id, e.id], array[s.status, day_was, was],
        array[to_status, d.status, e.status], array[verb, 'courses.roll_up', 'courses.roll_up'],
        actor, request, moment);
    if day_was <> d.status and d.status = 'COMPLETED' then
        perform courses._announce(e, array[d.number::int], was, request, moment);
    end if;
end $$;

-- The enrolment's own part: counters, status, where the person stands, and the streak: local dates
-- in a row. `today` is the date on the person's own clock, or null when nothing was completed.
create function courses._advance(
    e courses.enrolment, s courses.step, counts int, days int, today date, zone text,
    moment timestamptz)
returns courses.enrolment language plpgsql as $$
#variable_conflict use_variable
declare
    next  record;
    later boolean := today is not null and today >= coalesce(e.last_on, today);
begin
    next := (e.next_day, e.next_number);
    if counts = 1 and s.day = e.next_day and s.number = e.next_number then
        next := courses._next_open(e, s.day, s.number);
    end if;
    update courses.enrolment x
    set done = x.done + counts, days_done = x.days_done + days,
        status = case when x.days_done + days = x.days then 'COMPLETED' else 'IN_PROGRESS' end,
        next_day = next.f1, next_number = next.f2,
        started_at = coalesce(x.started_at, moment),
        completed_at = case when x.days_done + days = x.days
                            then coalesce(x.completed_at, moment) end,
        streak = case when not later or today = x.last_on then x.streak
                      when courses._follows(x.last_on, x.last_at, x.last_zone, today, moment, zone)
                      then x.streak + 1 else 1 end,
        last_on = case when later then today else x.last_on end,
        last_at = case when later then moment else x.last_at end,
        last_zone = case when later then zone else x.last_zone end,
        revision = x.revision + 1
    where x.bucket = e.bucket and x.id = e.id
    returning x.* into e;
    return e;
end $$;

-- The first required step that is open, behind (day, number).
create function courses._next_open(
    e courses.enrolment, after_day int, after_number int, out f1 smallint, out f2 smallint)
language plpgsql stable as $$
begin
    select x.day, x.number into f1, f2 from courses.step x
    where x.bucket = e.bucket and x.enrolment_id = e.id and x.attempt = e.attempt
      and x.status in ('NOT_STARTED', 'IN_PROGRESS') and not x.retired and x.required
      and (x.day, x.number) > (after_day, after_number)
    order by x.day, x.number limit 1;
end $$;

-- The 0-based index of the next open step of a day, behind `after`.
create function courses._next_index(d courses.day, after int)
returns int language plpgsql stable as $$
declare
    found int;
begin
    select x.number - 1 into found from courses.step x
    where x.bucket = d.bucket and x.enrolment_id = d.enrolment_id and x.attempt = d.attempt
      and x.status in ('NOT_STARTED', 'IN_PROGRESS') and not x.retired
      and x.day = d.number and x.number > after
    order by x.number limit 1;
    return coalesce(found, d.steps);
end $$;

-- The first completion of a date: the date is kept, and reminders begin after it. (Also of a date
-- before the latest, for whoever has just moved west.)
create function courses._be_active(
    e courses.enrolment, today date, zone text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into courses.activity (bucket, enrolment_id, on_date, at, zone, streak)
    values (e.bucket, e.id, today, moment, zone, e.streak)
    on conflict on constraint activity_pkey do nothing;
    if today = e.last_on then
        perform courses._set_reminders(e, moment);
    end if;
end $$;

-- Whether a date follows another. A journey must not break a streak: what follows on the clock that
-- was left, or on the one that was come to, follows. Neither DST nor a new zone changes what was.
create function courses._follows(
    last_on date, last_at timestamptz, last_zone text, today date, moment timestamptz, zone text)
returns boolean language sql immutable parallel safe
return coalesce(today <= last_on + 1
                or (moment at time zone last_zone)::date <= last_on + 1
                or today <= (last_at at time zone zone)::date + 1, false);

-- Whether the streak still stands: something was done today or yesterday, on either clock.
create function courses._alive(e courses.enrolment, zone text, moment timestamptz)
returns boolean language sql immutable parallel safe
return e.last_on is not null
       and courses._follows(e.last_on, e.last_at, e.last_zone, (moment at time zone zone)::date,
                            moment, zone);

-- One audit row for each of the three that moved.
create function courses._trace(
    machines text[], ids uuid[], from_statuses text[], to_statuses text[], actions text[],
    actor text, request text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    seed kernel.seed := kernel.new_seed();
begin
    insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status, actor,
                             request_id, at)
    select kernel.bucket_of(x.id), x.id,
           kernel.nth_id(seed.high, seed.low, x.ord, kernel.bucket_of(x.id)), x.machine, x.action,
           x.was, x.becomes, actor, request, moment
    from unnest(machines, ids, from_statuses, to_statuses, actions) with ordinality
         as x(machine, id, was, becomes, action, ord)
    where x.was is distinct from x.becomes;
end $$;

-- The effects of finished days, and of a course that just finished: once, because the statuses
-- moved under the lock and never move back.
create function courses._announce(
    e courses.enrolment, finished int[], was text, request text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    seed   kernel.seed := kernel.new_seed();
    whole  boolean := e.status = 'COMPLETED' and was <> 'COMPLETED';
    common jsonb;
    topics text[];
    facts  jsonb[];
begin
    perform outbox._lock(array[e.account_id], true);
    select jsonb_build_object('enrolment', e.id, 'attempt', e.attempt, 'course', e.slug,
                              'title', v.title, 'days', e.days)
    into strict common from courses.version v where v.slug = e.slug and v.version = e.version;
    select array_agg(t.topic order by t.ord), array_agg(t.facts order by t.ord)
    into topics, facts
    from (select 'courses.day_finished' as topic, common || jsonb_build_object('day', f) as facts,
                 f as ord from unnest(finished) f
          union all
          select 'courses.course_finished', common, 32767 where whole) t;
    perform outbox._append(array_fill(e.account_id, array[cardinality(topics)]),
        array(select kernel.nth_id(seed.high, seed.low, n, e.bucket)
              from generate_series(1, cardinality(topics)) n),
        topics, facts, array_fill(request, array[cardinality(topics)]), moment);
    if whole then
        perform outbox._cancel_timers(e.account_id, courses._reminder_keys(e.id));
    end if;
end $$;
