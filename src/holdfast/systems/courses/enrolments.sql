-- Courses, enrolments: beginning a course, beginning it again, and following its content.

-- Enrols a person in the version published last; again: the same enrolment (one of his aliases'
-- counts too). Outcomes: ok, not_found.
create function courses.enrol(
    account uuid, slug text, owners uuid[], actor text, request text default null)
returns table (code text, enrolment_id uuid, created boolean) language plpgsql as $$
#variable_conflict use_column
declare
    v      courses.version;
    e      courses.enrolment;
    moment timestamptz;
begin
    select x.* into v from courses.course c
    join courses.version x on x.slug = c.slug and x.version = c.version
    where c.slug = enrol.slug;
    if v.slug is null then
        return query select 'not_found', null::uuid, false;
        return;
    end if;
    -- Two clients of one person: the second waits here, and finds the first's.
    perform outbox._lock(array[account], true);
    moment := kernel.now();
    select x.* into e from unnest(owners || account) u
    join courses.enrolment x on x.bucket = kernel.bucket_of(u) and x.account_id = u
         and x.slug = enrol.slug
    order by x.created_at limit 1;
    if e.id is not null then
        return query select 'ok', e.id, false;
        return;
    end if;
    insert into courses.enrolment as x (bucket, id, account_id, slug, version, required, days,
                                        next_day, next_number, created_at)
    select kernel.bucket_of(account), kernel.new_id(kernel.bucket_of(account)), account, v.slug,
           v.version, count(*), v.days, 1, min(p.number) filter (where p.day = 1), moment
    from courses.plan_step p
    where p.slug = v.slug and p.version = v.version and p.required
    returning x.* into e;
    perform courses._lay(e);
    perform courses._set_reminders(e, moment);
    insert into audit.event (bucket, entity_id, id, entity, action, to_status, actor, new_value,
                             request_id, at)
    values (e.bucket, e.id, kernel.new_id(e.bucket), 'enrolment', 'courses.enrol', e.status, actor,
            e.slug || ' ' || e.version, request, moment);
    return query select 'ok', e.id, true;
end $$;

-- Writes the days and steps of an attempt, none of them begun.
create function courses._lay(e courses.enrolment)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    seed  kernel.seed := kernel.new_seed();
    other kernel.seed := kernel.new_seed();
begin
    insert into courses.day (bucket, id, enrolment_id, attempt, number, key, steps, required)
    select e.bucket, kernel.nth_id(seed.high, seed.low, d.number, e.bucket), e.id, e.attempt,
           d.number, d.key, count(*), count(*) filter (where p.required)
    from courses.plan_day d
    join courses.plan_step p
        on p.slug = d.slug and p.version = d.version and p.day = d.number
    where d.slug = e.slug and d.version = e.version
    group by d.number, d.key;
    insert into courses.step (bucket, id, enrolment_id, attempt, day_id, day, number, key,
                              required, has_needs)
    select e.bucket, kernel.nth_id(other.high, other.low,
                                   row_number() over (order by p.day, p.number), e.bucket),
           e.id, e.attempt, kernel.nth_id(seed.high, seed.low, p.day, e.bucket), p.day, p.number,
           p.key, p.required, p.needs <> '{}'
    from courses.plan_step p
    where p.slug = e.slug and p.version = e.version;
end $$;

-- Begins a course anew, in the version published last, as a new attempt; the old one is kept for
-- reading. What was never begun is not begun again. Outcomes: ok, not_found.
create function courses.restart(
    enrolment uuid, owners uuid[], actor text, request text default null)
returns table (code text, changed boolean, attempt int) language plpgsql as $$
#variable_conflict use_column
declare
    e      courses.enrolment := courses._lock_enrolment(enrolment, owners);
    moment timestamptz := kernel.now();
    was    text := e.status;
begin
    if e.id is null then
        return query select 'not_found', false, null::int;
        return;
    elsif e.status = 'NOT_STARTED' then
        return query select 'ok', false, e.attempt::int;
        return;
    end if;
    insert into courses.past_attempt (bucket, enrolment_id, attempt, version, status, required,
                                      done, started_at, completed_at, ended_at)
    values (e.bucket, e.id, e.attempt, e.version, e.status, e.required, e.done, e.started_at,
            e.completed_at, moment);
    update courses.enrolment x
    set attempt = x.attempt + 1, status = 'NOT_STARTED', version = n.version,
        required = n.required, done = 0, days = n.days, days_done = 0, next_day = 1,
        next_number = n.first, started_at = null, completed_at = null, revision = x.revision + 1
    from (select c.version, v.days, count(*) as required,
                 min(p.number) filter (where p.day = 1) as first
          from courses.course c
          join courses.version v on v.slug = c.slug and v.version = c.version
          join courses.plan_step p on p.slug = c.slug and p.version = c.version and p.required
          where c.slug = e.slug
          group by c.version, v.days) n
    where x.bucket = e.bucket and x.id = e.id
    returning x.* into e;
    perform courses._lay(e);
    perform courses._set_reminders(e, moment);
    perform courses._trace(array['enrolment'], array[e.id], array[was], array[e.status],
                           array['courses.restart'], actor, request, moment);
    return query select 'ok', true, e.attempt::int;
end $$;
select kernel.plan_by_index('courses.restart');

-- What these people have here, for whoever links their accounts.
create function courses._belongings(people uuid[])
returns table (what text, n bigint) language sql stable as $$
    select 'enrolments', count(*)
    from unnest(people) p
    join courses.enrolment e on e.bucket = kernel.bucket_of(p) and e.account_id = p
$$;
