-- Courses, prerequisites: what comes first. In a linear course every required step before; in any
-- course what a step names itself (all of them, or one). Finished means completed or skipped.

-- What is missing before `s` may be begun, first hundred, or null. Costs nothing where nothing can
-- be missing: the enrolment knows where the person stands.
create function courses._missing(e courses.enrolment, s courses.step, language text)
returns jsonb language plpgsql stable as $$
#variable_conflict use_variable
declare
    first jsonb;
    named jsonb;
begin
    if (s.day, s.number) > (e.next_day, e.next_number)
       and (select v.flow = 'linear' from courses.version v
            where v.slug = e.slug and v.version = e.version)
    then
        select jsonb_agg(jsonb_build_object('stepId', x.id, 'title',
                                            courses._say(p.title, language))
                         order by x.day, x.number)
        into first from (
            select * from courses.step y
            where y.bucket = e.bucket and y.enrolment_id = e.id and y.attempt = e.attempt
              and y.status in ('NOT_STARTED', 'IN_PROGRESS') and not y.retired and y.required
              and (y.day, y.number) >= (e.next_day, e.next_number)
              and (y.day, y.number) < (s.day, s.number)
            order by y.day, y.number limit 100) x
        join courses.plan_step p
            on p.slug = e.slug and p.version = e.version and p.key = x.key;
    end if;
    if s.has_needs then
        named := courses._missing_needs(e, s, language);
    end if;
    return case when first is null then named when named is null then first
                else first || named end;
end $$;

create function courses._missing_needs(e courses.enrolment, s courses.step, language text)
returns jsonb language plpgsql stable as $$
#variable_conflict use_variable
declare
    p       courses.plan_step;
    needed  int;
    open    int;
    missing jsonb;
begin
    select * into strict p from courses.plan_step x
    where x.slug = e.slug and x.version = e.version and x.key = s.key;
    select count(*), count(*) filter (where x.status not in ('COMPLETED', 'SKIPPED')),
           jsonb_agg(jsonb_build_object('stepId', x.id, 'title', courses._say(q.title, language))
                     order by x.day, x.number)
               filter (where x.status not in ('COMPLETED', 'SKIPPED'))
    into needed, open, missing
    from unnest(p.needs) k
    join courses.step x on x.bucket = e.bucket and x.enrolment_id = e.id
         and x.attempt = e.attempt and x.key = k
    join courses.plan_step q on q.slug = e.slug and q.version = e.version and q.key = k;
    return case when open = 0 or (p.need_any and open < needed) then null else missing end;
end $$;

-- A text in the reader's language, else in English, else in any.
create function courses._say(texts jsonb, language text)
returns text language sql immutable parallel safe
return coalesce(texts ->> language, texts ->> 'en', jsonb_path_query_first(texts, '$.*') #>> '{}');
