-- Courses, content: published in versions that never change. Publishing leaves everybody where he
-- is; who wants the new version moves (see moves.sql).

-- Publishes a course. `document` is complete: {slug, flow, title, about, remindAt, days: [{key,
-- title, steps: [{key, title, body, required, needs, needAny}]}]}, texts as {language: text}. The
-- same document again changes nothing. A rehearsal says what would happen and leaves nothing.
-- Outcomes: ok; invalid (with faults [{pointer, code}]). `touched`: unfinished enrolments in other
-- versions; `finishing`: those of them whose present work the new one would call finished at once.
create function courses.publish(document jsonb, actor text, rehearsal boolean default false)
returns table (code text, version int, created boolean, faults jsonb, steps_added int,
               steps_removed int, touched bigint, finishing bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    c      courses.course;
    moment timestamptz;
    print  bytea := sha256(convert_to(document::text, 'UTF8'));
begin
    faults := courses._faults(document);
    if faults is not null then
        code := 'invalid'; created := false;
        return next;
        return;
    end if;
    code := 'ok';
    begin
        insert into courses.course (slug, version, at)
        values (document ->> 'slug', 0, kernel.now()) on conflict do nothing;
        select * into strict c from courses.course x where x.slug = document ->> 'slug' for update;
        moment := kernel.now();
        version := c.version;
        created := not exists (select from courses.version v where v.slug = c.slug
                               and v.version = c.version and v.digest = print);
        if created then
            version := c.version + 1;
            perform courses._write(document, c.slug, c.version + 1, print, actor, moment);
            update courses.course x set version = c.version + 1, at = moment where x.slug = c.slug;
        end if;
        select t.added, t.removed, t.touched, t.finishing
        into steps_added, steps_removed, touched, finishing
        from courses._touched(c.slug, c.version, version) t;
        if rehearsal then
            raise exception 'rehearsal' using errcode = 'KH900';
        end if;
    exception when sqlstate 'KH900' then null;      -- undone; what was counted stays in variables
    end;
    return next;
end $$;

create function courses._write(
    document jsonb, slug text, version int, print bytea, actor text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into courses.version (slug, version, title, about, flow, remind_at, days, steps, digest,
                                 published_by, published_at)
    select slug, version, document -> 'title', document -> 'about', document ->> 'flow',
           (document ->> 'remindAt')::time, jsonb_array_length(document -> 'days'),
           (select sum(jsonb_array_length(d -> 'steps'))
            from jsonb_array_elements(document -> 'days') d), print, actor, moment;
    insert into courses.plan_day (slug, version, number, key, title)
    select slug, version, d.number, d.day ->> 'key', d.day -> 'title'
    from jsonb_array_elements(document -> 'days') with ordinality as d(day, number);
    insert into courses.plan_step (slug, version, key, day, number, title, body, required, needs,
                                   need_any)
    select slug, version, s.step ->> 'key', d.number, s.number, s.step -> 'title',
           s.step -> 'body', (s.step ->> 'required')::boolean,
           array(select jsonb_array_elements_text(s.step -> 'needs')),
           (s.step ->> 'needAny')::boolean
    from jsonb_array_elements(document -> 'days') with ordinality as d(day, number)
    cross join jsonb_array_elements(d.day -> 'steps') with ordinality as s(step, number);
end $$;

-- What the shape of a document cannot say: a day without a step that counts would be finished
-- before it began; keys name one thing each; a step needs what stands before it (so nothing can
-- need itself, and every course can be finished).
create function courses._faults(document jsonb)
returns jsonb language sql stable as $$
    with day as (
        select d.day, d.n::int as n, '/days/' || d.n - 1 as at
        from jsonb_array_elements(document -> 'days') with ordinality as d(day, n)),
    step as (
        select s.step, row_number() over (order by day.n, s.n) as place,
               day.at || '/steps/' || s.n - 1 as at
        from day cross join jsonb_array_elements(day.day -> 'steps') with ordinality as s(step, n)),
    fault as (
        select day.n as place, day.at || '/steps' as pointer, 'empty_day' as code from day
        where not exists (select from jsonb_array_elements(day.day -> 'steps') s
                          where (s ->> 'required')::boolean)
        union all
        select day.n, day.at || '/key', 'duplicate' from day
        where exists (select from day other where other.n < day.n
                      and other.day ->> 'key' = day.day ->> 'key')
        union all
        select step.place, step.at || '/key', 'duplicate' from step
        where exists (select from step other where other.place < step.place
                      and other.step ->> 'key' = step.step ->> 'key')
        union all
        select step.place, step.at || '/needs/' || need.n - 1, 'not_before' from step
        cross join jsonb_array_elements_text(step.step -> 'needs') with ordinality as need(key, n)
        where not exists (select from step other where other.place < step.place
                          and other.step ->> 'key' = need.key))
    select jsonb_agg(jsonb_build_object('pointer', pointer, 'code', code) order by place, pointer)
    from fault
$$;

-- Whom a new version touches. Finishing: an open day that has nothing open left in the new plan.
create function courses._touched(
    slug text, before int, becomes int,
    out added int, out removed int, out touched bigint, out finishing bigint)
language plpgsql stable as $$
#variable_conflict use_variable
begin
    select count(*) filter (where o.key is null), count(*) filter (where n.key is null)
    into added, removed
    from (select p.key from courses.plan_step p where p.slug = slug and p.version = becomes) n
    full join (select p.key from courses.plan_step p
               where p.slug = slug and p.version = before) o on o.key = n.key;
    select count(*), count(*) filter (where exists (
        select from courses.day d
        where d.bucket = e.bucket and d.enrolment_id = e.id and d.attempt = e.attempt
          and not d.retired and d.status <> 'COMPLETED' and d.finished > 0
          and not exists (
              select from courses.plan_day pd
              join courses.plan_step p
                  on p.slug = pd.slug and p.version = pd.version and p.day = pd.number
              left join courses.step s on s.bucket = e.bucket and s.enrolment_id = e.id
                   and s.attempt = e.attempt and s.key = p.key
              where pd.slug = slug and pd.version = becomes and pd.key = d.key and p.required
                and coalesce(s.status, 'NOT_STARTED') not in ('COMPLETED', 'SKIPPED'))))
    into touched, finishing
    from courses.enrolment e
    where e.slug = slug and e.version <> becomes and e.status <> 'COMPLETED';
end $$;

-- What there is to learn, by slug; `enrolment_id` where one of these people is enrolled.
create function courses.catalogue(owners uuid[], language text)
returns table (slug text, version int, title text, about text, flow text, days int, steps int,
               enrolment_id uuid)
language sql stable as $$
    select v.slug, v.version, courses._say(v.title, language), courses._say(v.about, language),
           v.flow, v.days, v.steps, mine.id
    from courses.course c
    join courses.version v on v.slug = c.slug and v.version = c.version
    left join lateral (
        select e.id from unnest(owners) u
        join courses.enrolment e on e.bucket = kernel.bucket_of(u) and e.account_id = u
             and e.slug = c.slug
        order by e.created_at limit 1) mine on true
    order by v.slug
$$;
