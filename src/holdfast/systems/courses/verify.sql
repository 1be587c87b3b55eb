-- Courses, verify: what the roll-up adds up, counted anew from the steps.

create function courses._verify_days(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    with counted as (
        select s.bucket, s.day_id, count(*) as steps,
               count(*) filter (where s.status in ('COMPLETED', 'SKIPPED')) as finished,
               count(*) filter (where s.required) as required,
               count(*) filter (where s.required and s.status in ('COMPLETED', 'SKIPPED')) as done,
               min(s.number) filter (where s.status in ('NOT_STARTED', 'IN_PROGRESS')) as open
        from courses.step s
        where s.bucket between first and last and not s.retired
        group by s.bucket, s.day_id)
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select d.id, c.day_id is null
               or (d.steps, d.finished, d.required, d.done)
                  is distinct from (c.steps, c.finished, c.required, c.done)
               or (d.status = 'COMPLETED') <> (c.done = c.required)
               or d.current_step_index <> case when d.status = 'COMPLETED' then c.steps
                                               else c.open - 1 end as bad
        from courses.day d
        left join counted c on c.bucket = d.bucket and c.day_id = d.id
        where d.bucket between first and last and not d.retired) x
$$;
comment on function courses._verify_days is
    'a day is finished exactly when its required steps are, and its counters are the counts';

create function courses._verify_enrolments(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    with counted as (
        select d.bucket, d.enrolment_id, d.attempt, count(*) as days, sum(d.required) as required,
               sum(d.done) as done, count(*) filter (where d.status = 'COMPLETED') as days_done
        from courses.day d
        where d.bucket between first and last and not d.retired
        group by d.bucket, d.enrolment_id, d.attempt)
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select e.id, c.days is null
               or (e.days, e.days_done, e.required, e.done)
                  is distinct from (c.days, c.days_done, c.required, c.done)
               or courses._percent(e) not between 0 and 100
               or (courses._percent(e) = 100) <> (e.status = 'COMPLETED') as bad
        from courses.enrolment e
        left join counted c on c.bucket = e.bucket and c.enrolment_id = e.id
             and c.attempt = e.attempt
        where e.bucket between first and last) x
$$;
comment on function courses._verify_enrolments is
    'a course is finished exactly when its days are, and percent is 0-100 and 100 then alone';

create function courses._verify_announcements(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select d.id, 1 <> (
            select count(*) from audit.event a
            where a.bucket = d.bucket and a.entity_id = d.id and a.to_status = 'COMPLETED') as bad
        from courses.day d
        where d.bucket between first and last and d.status = 'COMPLETED') x
$$;
comment on function courses._verify_announcements is 'a day was finished once';

create function courses._verify_dates(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select s.id, not exists (
            select from courses.activity a
            where a.bucket = s.bucket and a.enrolment_id = s.enrolment_id
              and a.on_date = s.completed_on) as bad
        from courses.step s
        where s.bucket between first and last and s.status = 'COMPLETED') x
$$;
comment on function courses._verify_dates is
    'every local date with a completion is kept, so that streaks are what was done';
