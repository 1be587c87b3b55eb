-- Courses, reads: what a person sees, and why something is not finished.

-- One enrolment with its days and steps, of the present attempt or an earlier one. No row: not
-- there, or not these people's.
create function courses.get(
    enrolment uuid, owners uuid[], language text default 'en', of_attempt int default null)
returns table (id uuid, account_id uuid, slug text, title text, about text, version int,
               newest int, attempt int, status text, percent int, done int, required int,
               streak int, reminders boolean, started_at timestamptz, completed_at timestamptz,
               revision int, today date, active_on date[], days jsonb)
language plpgsql stable as $$
#variable_conflict use_column
declare
    e       courses.enrolment;
    moment  timestamptz := kernel.now();
    zone    text;
    current int;
begin
    select * into e from courses.enrolment x
    where x.bucket = kernel.bucket_of(enrolment) and x.id = enrolment
      and (owners is null or x.account_id = any (owners));
    if e.id is null then
        return;
    end if;
    zone := outbox._zone_of(e.account_id);
    current := e.streak * courses._alive(e, zone, moment)::int;
    if of_attempt <> e.attempt then
        select p.attempt, p.version, p.status, p.required, p.done, p.started_at, p.completed_at
        into e.attempt, e.version, e.status, e.required, e.done, e.started_at, e.completed_at
        from courses.past_attempt p
        where p.bucket = e.bucket and p.enrolment_id = e.id and p.attempt = of_attempt;
        if not found then
            return;
        end if;
    end if;
    return query
    select e.id, e.account_id, e.slug, courses._say(v.title, language),
           courses._say(v.about, language), e.version, c.version, e.attempt::int, e.status,
           courses._percent(e), e.done, e.required, current, e.reminders, e.started_at,
           e.completed_at, e.revision, (moment at time zone zone)::date,
           array(select a.on_date from courses.activity a
                 where a.bucket = e.bucket and a.enrolment_id = e.id
                   and a.on_date > (moment at time zone zone)::date - 35 order by a.on_date),
           courses._days(e, language)
    from courses.version v join courses.course c on c.slug = v.slug
    where v.slug = e.slug and v.version = e.version;
end $$;

-- 0-100, and 100 exactly when the course is finished.
create function courses._percent(e courses.enrolment)
returns int language sql immutable parallel safe
return case when e.status = 'COMPLETED' then 100
            when e.required = 0 then 0
            else least(99, 100 * e.done / e.required) end;

create function courses._days(e courses.enrolment, language text)
returns jsonb language plpgsql stable as $$
declare
    made jsonb;
begin
    select jsonb_agg(jsonb_build_object(
        'number', d.number, 'title', courses._say(p.title, language), 'status', d.status,
        'currentStepIndex', d.current_step_index, 'completedAt', d.completed_at, 'steps', s.steps)
        order by d.number)
    into made
    from courses.day d
    join courses.plan_day p on p.slug = e.slug and p.version = e.version and p.key = d.key
    join (select x.day_id, jsonb_agg(jsonb_build_object(
              'id', x.id, 'number', x.number, 'title', courses._say(q.title, language),
              'body', courses._say(q.body, language), 'status', x.status,
              'required', x.required, 'startedAt', x.started_at,
              'completedAt', x.completed_at, 'completedOn', x.completed_on,
              'skipReason', x.skip_reason) order by x.number) as steps
          from courses.step x
          join courses.plan_step q on q.slug = e.slug and q.version = e.version and q.key = x.key
          where x.bucket = e.bucket and x.enrolment_id = e.id and x.attempt = e.attempt
            and not x.retired
          group by x.day_id) s on s.day_id = d.id
    where d.bucket = e.bucket and d.enrolment_id = e.id and d.attempt = e.attempt
      and not d.retired;
    return coalesce(made, '[]');
end $$;

-- The enrolments of these people, newest first, from below `before` on.
create function courses.enrolments(
    owners uuid[], language text default 'en', before uuid default null, at_most int default 50)
returns table (id uuid, slug text, title text, status text, percent int, attempt int,
               started_at timestamptz, completed_at timestamptz, created_at timestamptz)
language sql stable as $$
    select e.id, e.slug, courses._say(v.title, language), e.status, courses._percent(e),
           e.attempt::int, e.started_at, e.completed_at, e.created_at
    from unnest(owners) u
    join courses.enrolment e on e.bucket = kernel.bucket_of(u) and e.account_id = u
    join courses.version v on v.slug = e.slug and v.version = e.version
    where e.id < coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by e.id desc
    limit at_most
$$;

-- Why is this course (or this day of it) not finished: the required steps that are open, first two
-- hundred. No row: not there, or not these people's.
create function courses.explain(
    enrolment uuid, owners uuid[], language text default 'en', of_day int default null)
returns table (complete boolean, missing jsonb) language plpgsql stable as $$
declare
    e courses.enrolment;
begin
    select * into e from courses.enrolment x
    where x.bucket = kernel.bucket_of(enrolment) and x.id = enrolment
      and (owners is null or x.account_id = any (owners));
    if e.id is null or not exists (
        select from courses.day d
        where d.bucket = e.bucket and d.enrolment_id = e.id and d.attempt = e.attempt
          and not d.retired and d.number = coalesce(of_day, d.number))
    then
        return;
    end if;
    return query
    select count(*) = 0, coalesce(jsonb_agg(jsonb_build_object(
               'stepId', s.id, 'title', courses._say(p.title, language), 'day', s.day,
               'number', s.number, 'status', s.status) order by s.day, s.number), '[]')
    from (select * from courses.step x
          where x.bucket = e.bucket and x.enrolment_id = e.id and x.attempt = e.attempt
            and x.status in ('NOT_STARTED', 'IN_PROGRESS') and not x.retired and x.required
            and x.day between coalesce(of_day, 0) and coalesce(of_day, 32767)
          order by x.day, x.number limit 200) s
    join courses.plan_step p on p.slug = e.slug and p.version = e.version and p.key = s.key;
end $$;
