-- Projects: what stage 3 saved, stage 4 loads, and knows when it has changed.
--
-- Every write locks the project's row first, so the writes of one project happen one after another:
-- ten first saves at once make one row with the versions 1 to 10, a merge patch is merged into what
-- is there and not into what somebody read, and the later stages are judged in the transaction that
-- changed the earlier one. A project is the work of one person or a few; nobody queues.
--
-- A step is stale when the value it was made from is no longer what the earlier stage holds. Just
-- the declared path counts, by its digest as jsonb: the order of keys and white space are gone
-- there. Nothing of a stale step is touched until a person says which of the two it shall be.

select transitions.declare('step', 'projects.step', $$
    EMPTY, DRAFT, COMPLETED, SKIPPED
    save:     EMPTY | DRAFT | SKIPPED → DRAFT (owner, member)
    save:     COMPLETED → COMPLETED (owner, member)
    complete: DRAFT → COMPLETED (owner, member)
    skip:     EMPTY | DRAFT → SKIPPED (owner, member)
    reopen:   COMPLETED | SKIPPED → DRAFT (owner, member)
$$);

-- A step as people see it; a stage that was never saved is EMPTY, version 0.
create view projects.step_seen as
    select p.bucket, p.id as project_id, g.number as step_number, g.name, g.required, g.schema,
           coalesce(s.status, 'EMPTY') as status, coalesce(s.stale, false) as stale,
           coalesce(s.data, '{}') as data, s.completed_at, s.skip_reason,
           coalesce(s.version, 0) as version, s.created_at, s.updated_at,
           case when s.stale then (
               select jsonb_agg(jsonb_build_object(
                          'from', b.from_number, 'path', to_jsonb(b.path), 'was', b.value,
                          'now', e.data #> b.path) order by b.from_number, b.path)
               from projects.basis b
               left join projects.step e on e.bucket = b.bucket and e.project_id = b.project_id
                    and e.number = b.from_number
               where b.bucket = s.bucket and b.project_id = s.project_id and b.number = s.number
           ) end as inputs
    from projects.project p
    join projects.stage g on g.template = p.template
    left join projects.step s on s.bucket = p.bucket and s.project_id = p.id
         and s.number = g.number;

-- Declares a template, or changes it: [{number, name, required?, schema, inputs?: [{from, path,
-- copiedTo?}]}]. Stages of projects under way are judged by the new one.
create function projects._declare_template(called text, stages jsonb)
returns void language plpgsql as $$
begin
    insert into projects.template (template) values (called) on conflict do nothing;
    delete from projects.input i where i.template = called;
    delete from projects.stage g where g.template = called;
    insert into projects.stage (template, number, name, required, schema)
    select called, (g ->> 'number')::smallint, g ->> 'name',
           coalesce((g ->> 'required')::boolean, true), g -> 'schema'
    from jsonb_array_elements(stages) g;
    insert into projects.input (template, number, from_number, path, copied_to)
    select called, (g ->> 'number')::smallint, (i ->> 'from')::smallint,
           string_to_array(i ->> 'path', '.'), string_to_array(i ->> 'copiedTo', '.')
    from jsonb_array_elements(stages) g, jsonb_array_elements(g -> 'inputs') i
    where g ? 'inputs';
end $$;

-- RFC 7396, to the letter: an object in the patch is merged, a null removes, all else replaces.
create function projects._merge(target jsonb, patch jsonb) returns jsonb
language plpgsql immutable as $$
declare
    merged jsonb;
    m      record;
begin
    if jsonb_typeof(patch) <> 'object' then
        return patch;
    end if;
    merged := case when jsonb_typeof(target) = 'object' then target else '{}' end;
    for m in select e.key, e.value from jsonb_each(patch) e loop
        merged := case when jsonb_typeof(m.value) = 'null' then merged - m.key
                  else merged || jsonb_build_object(
                           m.key, projects._merge(merged -> m.key, m.value)) end;
    end loop;
    return merged;
end $$;

-- Of a value that is not there it is the digest of nothing, which no JSON text has.
create function projects._digest(value jsonb) returns bytea
language sql immutable parallel safe
return sha256(convert_to(coalesce(value::text, ''), 'UTF8'));

-- What somebody is to a project: owner, member, or null.
create function projects._seat(p projects.project, family uuid[]) returns text
language plpgsql stable as $$
begin
    return case
        when p.account_id = any (family) then 'owner'
        when exists (select from projects.member m where m.bucket = p.bucket
                     and m.project_id = p.id and m.account_id = any (family)) then 'member' end;
end $$;

-- Locks a project for somebody who may write in it. A stranger finds nothing and locks nothing; who
-- was put out while he waited finds nothing either.
create function projects._lock(project uuid, family uuid[], out p projects.project, out seat text)
language plpgsql as $$
#variable_conflict use_variable
begin
    select * into p from projects.project x
    where x.bucket = kernel.bucket_of(project) and x.id = project;
    if p.id is null or projects._seat(p, family) is null then
        return;
    end if;
    perform 1 from projects.project x where x.bucket = p.bucket and x.id = p.id for update;
    seat := projects._seat(p, family);
end $$;

-- The same for one of its stages. `s` is null where it was never saved.
create function projects._open(
    project uuid, number int, family uuid[], if_version int,
    out code text, out p projects.project, out s projects.step)
language plpgsql as $$
#variable_conflict use_variable
declare
    held record := projects._lock(project, family);
begin
    p := held.p;
    code := case
        when held.seat is null then 'not_found'
        when not exists (select from projects.stage g where g.template = p.template
                         and g.number = number) then 'no_such_stage' end;
    if code is null then
        select * into s from projects.step x
        where x.bucket = p.bucket and x.project_id = p.id and x.number = number;
        code := case when if_version <> coalesce(s.version, 0) then 'version_mismatch'
                else 'ok' end;
    end if;
end $$;
select kernel.plan_by_index('projects._open');

-- The trace of a move, in the owner's stream: the audit row and the effect, under one id.
create function projects._trace(
    p projects.project, entity text, entity_id uuid, verb text, from_status text, to_status text,
    payload jsonb, actor uuid, reason text, request_id text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    event uuid := kernel.new_id(p.bucket);
    past  text := case verb when 'save' then 'saved' when 'skip' then 'skipped'
                  when 'reopen' then 'reopened' when 'accept' then 'accepted'
                  when 'keep' then 'kept' when 'restore' then 'restored'
                  when 'add_member' then 'member_added'
                  when 'remove_member' then 'member_removed' else verb || 'd' end;
begin
    perform outbox._lock(array[p.account_id], true);
    perform audit._record(entity, 'projects.' || verb, array[event], array[entity_id],
        array[from_status], array[to_status], array[actor::text], array[reason],
        array[request_id], moment);
    perform outbox._append(array[p.account_id], array[event], array['projects.' || past],
        array[jsonb_build_object('project', p.id, 'by', actor) || coalesce(payload, '{}')],
        array[request_id], moment);
end $$;
select kernel.plan_by_index('projects._trace');

-- What a verb answers: its code and the step as it is now; nothing of it to a stranger.
create function projects._tell(outcome text, project uuid, number int)
returns table (code text, seen projects.step_seen) language plpgsql stable as $$
#variable_conflict use_variable
begin
    code := outcome;
    if outcome not in ('not_found', 'no_such_stage') then
        select * into strict seen from projects.step_seen x
        where x.bucket = kernel.bucket_of(project) and x.project_id = project
          and x.step_number = number;
    end if;
    return next;
end $$;
select kernel.plan_by_index('projects._tell');
