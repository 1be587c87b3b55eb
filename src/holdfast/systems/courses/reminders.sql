-- Courses, reminders: timed effects on the person's own clock, taken back in the transaction that
-- makes them pointless. Set anew by the first completion of a date: one, three and seven days later
-- at the course's hour. One that left its timer already (a push held back by quiet hours) is
-- checked at send: it is pointless as soon as anything was done since, for then the enrolment's
-- latest date is another.

select outbox.declare_kind('courses.day_finished', true, 86400, 'normal');
select outbox.declare_kind('courses.course_finished', true, 604800, 'normal');
select outbox.declare_kind('courses.reminder', true, 43200, 'low');

create function courses._reminder_keys(enrolment uuid)
returns text[] language sql immutable parallel safe
return array['courses.reminder:1:' || enrolment, 'courses.reminder:2:' || enrolment,
             'courses.reminder:3:' || enrolment];

-- Sets the reminders that begin after the person's present date; none for a finished course.
create function courses._set_reminders(e courses.enrolment, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    v    courses.version;
    zone text := outbox._zone_of(e.account_id);
    seed kernel.seed := kernel.new_seed();
    keys text[] := courses._reminder_keys(e.id);
    told jsonb;
    held jsonb;
    due  timestamp[];
begin
    perform outbox._lock(array[e.account_id], true);
    select * into strict v from courses.version x where x.slug = e.slug and x.version = e.version;
    if e.status = 'COMPLETED' or not e.reminders or v.remind_at is null then
        perform outbox._cancel_timers(e.account_id, keys);
        return;
    end if;
    told := jsonb_build_object('enrolment', e.id, 'attempt', e.attempt, 'course', e.slug,
                               'title', v.title, 'streak', e.streak);
    held := jsonb_build_object('entity', 'enrolment', 'id', e.id,
        'statuses', array['NOT_STARTED', 'IN_PROGRESS'],
        'also', jsonb_build_object('attempt', e.attempt, 'last_on', e.last_on,
                                   'reminders', true));
    select array_agg((moment at time zone zone)::date + later.days + v.remind_at)
    into due from unnest(array[1, 3, 7]) as later(days);
    perform outbox._set_timers(e.account_id, keys,
        array(select kernel.nth_id(seed.high, seed.low, n, e.bucket) from generate_series(1, 3) n),
        array_fill('courses.reminder'::text, array[3]), array_fill(told, array[3]),
        array_fill(held, array[3]),
        array(select u at time zone zone from unnest(due) u), due, moment);
end $$;

-- Whether this enrolment may remind. Outcomes: ok, not_found.
create function courses.set_reminders(
    enrolment uuid, owners uuid[], wanted boolean, actor text, request text default null)
returns text language plpgsql as $$
declare
    e      courses.enrolment := courses._lock_enrolment(enrolment, owners);
    moment timestamptz := kernel.now();
begin
    if e.id is null then
        return 'not_found';
    end if;
    if e.reminders <> wanted then
        update courses.enrolment x set reminders = wanted, revision = x.revision + 1
        where x.bucket = e.bucket and x.id = e.id returning x.* into e;
        insert into audit.event (bucket, entity_id, id, entity, action, actor, old_value,
                                 new_value, request_id, at)
        values (e.bucket, e.id, kernel.new_id(e.bucket), 'enrolment', 'courses.set_reminders',
                actor, (not wanted)::text, wanted::text, request, moment);
        perform courses._set_reminders(e, moment);
    end if;
    return 'ok';
end $$;
