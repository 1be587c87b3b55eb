-- What was, and what is to follow: revisions, and the two answers to a stale step.

-- The kept revisions of a step, newest first, those before `before`. No row at all: not found.
create function projects.revisions(
    project uuid, number int, family uuid[], before int, at_most int)
returns table (version int, data jsonb, by uuid, at timestamptz) language plpgsql stable as $$
#variable_conflict use_variable
begin
    return query
    select r.version, r.data, r.by, r.at from projects.revision r
    where r.bucket = kernel.bucket_of(project) and r.project_id = project and r.number = number
      and r.version < coalesce(before, 2147483647)
      and exists (select from projects.project p where p.bucket = r.bucket and p.id = project
                  and projects._seat(p, family) is not null)
    order by r.version desc limit at_most;
end $$;
select kernel.plan_by_index('projects.revisions');

-- Makes an old revision's data the step's again, as a new version. Outcomes: ok, version_mismatch,
-- no_such_stage, not_found (also where that revision is not kept any more).
create function projects.restore(
    project uuid, number int, version int, actor uuid, family uuid[],
    if_version int default null, request_id text default null)
returns table (code text, seen projects.step_seen) language plpgsql as $$
#variable_conflict use_variable
declare
    opened record := projects._open(project, number, family, if_version);
    s      projects.step := opened.s;
    old    jsonb;
begin
    code := opened.code;
    select r.data into old from projects.revision r
    where r.bucket = kernel.bucket_of(project) and r.project_id = project and r.number = number
      and r.version = version;
    if code = 'ok' and old is null then
        code := 'not_found';
    elsif code = 'ok' then
        perform projects._write(opened.p, number, s, old, s.completed_at, s.skip_reason,
            case s.status when 'COMPLETED' then 'COMPLETED' else 'DRAFT' end, 'restore', actor,
            null, request_id, kernel.now());
    end if;
    return query select t.code, t.seen from projects._tell(code, project, number) t;
end $$;
select kernel.plan_by_index('projects.restore');

-- A person has seen what changed under a stale step and takes the new: it is what the step is made
-- from now, and where the step holds a copy of its own, the copy becomes the new value. Of a step
-- that is not stale nothing changes. Outcomes: ok, too_large, version_mismatch, no_such_stage,
-- not_found.
create function projects.accept(
    project uuid, number int, actor uuid, family uuid[], if_version int default null,
    request_id text default null)
returns table (code text, most bigint, seen projects.step_seen) language plpgsql as $$
#variable_conflict use_variable
declare
    opened record := projects._open(project, number, family, if_version);
    s      projects.step := opened.s;
    moment timestamptz := kernel.now();
    fresh  jsonb;
begin
    code := opened.code;
    most := kernel.setting_number('step_bytes_max');
    if code = 'ok' and s.stale then
        fresh := projects._with_news(opened.p, s);
        if octet_length(fresh::text) > most then
            code := 'too_large';
        else
            perform projects._rebase(s);
            if fresh <> s.data then
                perform projects._write(opened.p, number, s, fresh, s.completed_at, s.skip_reason,
                                        s.status, 'accept', actor, null, request_id, moment);
            else
                perform projects._trace(opened.p, 'step', s.id, 'accept', s.status, s.status,
                    jsonb_build_object('step', number), actor, null, request_id, moment);
            end if;
        end if;
    end if;
    return query select t.code, most, t.seen from projects._tell(code, project, number) t;
end $$;
select kernel.plan_by_index('projects.accept');

-- The step's data with the present value of each input, where it keeps a copy of one.
create function projects._with_news(p projects.project, s projects.step) returns jsonb
language plpgsql stable as $$
#variable_conflict use_variable
declare
    fresh jsonb := s.data;
    i     record;
begin
    for i in
        select x.copied_to, e.data #> x.path as value
        from projects.input x
        join projects.step e on e.bucket = s.bucket and e.project_id = s.project_id
             and e.number = x.from_number
        where x.template = p.template and x.number = s.number and x.copied_to is not null
          and s.data #> x.copied_to is not null
    loop
        fresh := case when i.value is null then fresh #- i.copied_to
                 else jsonb_set(fresh, i.copied_to, i.value) end;
    end loop;
    return fresh;
end $$;
select kernel.plan_by_index('projects._with_news');

-- From now on a step is made from what its inputs are now.
create function projects._rebase(s projects.step) returns void
language plpgsql as $$
begin
    update projects.basis b
    set digest = projects._digest(n.value), value = n.value, kept = null
    from (select x.from_number, x.path, e.data #> x.path as value
          from projects.basis x
          left join projects.step e on e.bucket = x.bucket and e.project_id = x.project_id
               and e.number = x.from_number
          where x.bucket = s.bucket and x.project_id = s.project_id and x.number = s.number) n
    where b.bucket = s.bucket and b.project_id = s.project_id and b.number = s.number
      and b.from_number = n.from_number and b.path = n.path;
    update projects.step x set stale = false
    where x.bucket = s.bucket and x.id = s.id and x.stale;
end $$;
select kernel.plan_by_index('projects._rebase');

-- A person has seen what changed and keeps his own: the step is as it was, and fresh until the
-- input changes once more. What it was made from stays known, for the next difference. Outcomes:
-- ok, version_mismatch, no_such_stage, not_found.
create function projects.keep(
    project uuid, number int, actor uuid, family uuid[], if_version int default null,
    request_id text default null)
returns table (code text, seen projects.step_seen) language plpgsql as $$
#variable_conflict use_variable
declare
    opened record := projects._open(project, number, family, if_version);
    s      projects.step := opened.s;
begin
    code := opened.code;
    if code = 'ok' and s.stale then
        update projects.basis b
        set kept = projects._digest(
            (select e.data #> b.path from projects.step e where e.bucket = b.bucket
             and e.project_id = b.project_id and e.number = b.from_number))
        where b.bucket = s.bucket and b.project_id = s.project_id and b.number = s.number;
        update projects.step x set stale = false where x.bucket = s.bucket and x.id = s.id;
        perform projects._trace(opened.p, 'step', s.id, 'keep', s.status, s.status,
            jsonb_build_object('step', number), actor, null, request_id, kernel.now());
    end if;
    return query select t.code, t.seen from projects._tell(code, project, number) t;
end $$;
select kernel.plan_by_index('projects.keep');
