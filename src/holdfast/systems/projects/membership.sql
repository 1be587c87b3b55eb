-- Projects and who works on them.

-- A project as people see it; `seat` is what the caller is to it.
create function projects._shown(p projects.project, family uuid[])
returns table (id uuid, title text, template text, owner_id uuid, seat text, members jsonb,
               stages jsonb, created_at timestamptz) language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
    select p.id, p.title, p.template, p.account_id, projects._seat(p, family),
           coalesce((select jsonb_agg(jsonb_build_object('accountId', m.account_id, 'at', m.at)
                                      order by m.at, m.account_id)
                     from projects.member m where m.bucket = p.bucket and m.project_id = p.id),
                    '[]'),
           (select jsonb_agg(jsonb_build_object(
                       'number', g.number, 'name', g.name, 'required', g.required,
                       'schema', g.schema, 'inputs', (
                           select coalesce(jsonb_agg(i.from_number || '.'
                                                     || array_to_string(i.path, '.')
                                                     order by i.from_number, i.path), '[]')
                           from projects.input i
                           where i.template = g.template and i.number = g.number))
                       order by g.number)
            from projects.stage g where g.template = p.template),
           p.created_at;
end $$;
select kernel.plan_by_index('projects._shown');

-- Makes a project; where a key is given, once per account and key. Outcomes: ok, no_such_template,
-- idempotency_key_reused.
create function projects.create(
    account uuid, title text, template text default 'video', key text default null,
    request_id text default null)
returns table (code text, replayed boolean, id uuid) language plpgsql as $$
#variable_conflict use_variable
declare
    p      projects.project;
    print  bytea := idempotency._fingerprint(jsonb_build_array(title, template)::text);
    moment timestamptz;
    judged record;
begin
    replayed := false;
    if not exists (select from projects.template t where t.template = template) then
        return query select 'no_such_template', false, null::uuid;
        return;
    end if;
    perform outbox._lock(array[account], true);
    moment := kernel.now();
    if key is not null then
        judged := idempotency._judge(array[account], 'projects.create', array[key], array[print]);
        if judged.standings[1] <> 'fresh' then
            replayed := judged.standings[1] = 'replay';
            return query select case when replayed then 'ok' else judged.standings[1] end,
                                replayed, judged.results[1];
            return;
        end if;
    end if;
    insert into projects.project (bucket, id, account_id, template, title, created_at)
    values (kernel.bucket_of(account), kernel.new_id(kernel.bucket_of(account)), account, template,
            title, moment)
    returning * into p;
    if key is not null then
        perform idempotency._bind(array[account], 'projects.create', array[key], array[print],
            array[p.id], moment,
            moment + make_interval(hours => kernel.setting_number('idempotency_hours')::int));
    end if;
    perform projects._trace(p, 'project', p.id, 'create', null, null, null, account, null,
                            request_id, moment);
    return query select 'ok', false, p.id;
end $$;
select kernel.plan_by_index('projects.create');

-- One project of these accounts, theirs or shared with them; no row where there is none.
create function projects.get(project uuid, family uuid[])
returns table (id uuid, title text, template text, owner_id uuid, seat text, members jsonb,
               stages jsonb, created_at timestamptz) language plpgsql stable as $$
#variable_conflict use_variable
declare
    p projects.project;
begin
    select * into p from projects.project x
    where x.bucket = kernel.bucket_of(project) and x.id = project;
    if p.id is not null and projects._seat(p, family) is not null then
        return query select * from projects._shown(p, family);
    end if;
end $$;
select kernel.plan_by_index('projects.get');

-- The projects of these accounts and those shared with them, newest first, made before `before`.
create function projects.list_of(family uuid[], before uuid, at_most int)
returns table (id uuid, title text, template text, owner_id uuid, seat text, members jsonb,
               stages jsonb, created_at timestamptz) language plpgsql stable as $$
#variable_conflict use_variable
declare
    last uuid := coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
begin
    return query
    select s.* from (
        select x.* from (
            (select p.* from unnest(family) f
             join projects.project p on p.bucket = kernel.bucket_of(f) and p.account_id = f
             where p.id < last order by p.id desc limit at_most)
            union
            (select p.* from unnest(family) f
             join projects.member m on m.account_id = f
             join projects.project p on p.bucket = m.bucket and p.id = m.project_id
             where p.id < last order by p.id desc limit at_most)) x
        order by x.id desc limit at_most) y
    cross join lateral projects._shown(
        row(y.bucket, y.id, y.account_id, y.template, y.title, y.created_at)::projects.project,
        family) s
    order by s.id desc;
end $$;
select kernel.plan_by_index('projects.list_of');

-- Every step of a project, EMPTY ones too; no row where it is not the caller's to see.
create function projects.steps(project uuid, family uuid[])
returns setof projects.step_seen language plpgsql stable as $$
#variable_conflict use_variable
begin
    return query
    select v.* from projects.step_seen v
    where v.bucket = kernel.bucket_of(project) and v.project_id = project
      and exists (select from projects.project p where p.bucket = v.bucket and p.id = project
                  and projects._seat(p, family) is not null)
    order by v.step_number;
end $$;
select kernel.plan_by_index('projects.steps');

-- Has somebody write in a project besides its owner. Outcomes: ok (again too), forbidden (a member
-- may not), not_found (no such project, or no such account).
create function projects.add_member(
    project uuid, account uuid, actor uuid, family uuid[], request_id text default null)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    held   record := projects._lock(project, family);
    p      projects.project := held.p;
    moment timestamptz := kernel.now();
begin
    if held.seat is null then
        return 'not_found';
    elsif held.seat <> 'owner' then
        return 'forbidden';
    elsif not exists (select from outbox.stream s where s.bucket = kernel.bucket_of(account)
                      and s.stream = account) then
        return 'not_found';
    elsif account = any (family) then
        return 'ok';
    end if;
    insert into projects.member (bucket, project_id, account_id, added_by, at)
    values (p.bucket, p.id, account, actor, moment)
    on conflict (bucket, project_id, account_id) do nothing;
    if found then
        perform projects._trace(p, 'project', p.id, 'add_member', null, null,
            jsonb_build_object('member', account), actor, null, request_id, moment);
    end if;
    return 'ok';
end $$;
select kernel.plan_by_index('projects.add_member');

-- Ends it, by the owner or by the member himself. Outcomes: ok (again too), forbidden, not_found.
create function projects.remove_member(
    project uuid, account uuid, actor uuid, family uuid[], request_id text default null)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    held record := projects._lock(project, family);
    p    projects.project := held.p;
begin
    if held.seat is null then
        return 'not_found';
    elsif held.seat <> 'owner' and not account = any (family) then
        return 'forbidden';
    end if;
    delete from projects.member m
    where m.bucket = p.bucket and m.project_id = p.id and m.account_id = account;
    if found then
        perform projects._trace(p, 'project', p.id, 'remove_member', null, null,
            jsonb_build_object('member', account), actor, null, request_id, kernel.now());
    end if;
    return 'ok';
end $$;
select kernel.plan_by_index('projects.remove_member');

-- How many projects people have, for whoever links or erases them.
create function projects._belongings(people uuid[])
returns table (what text, n bigint) language plpgsql stable as $$
#variable_conflict use_variable
begin
    return query
    select 'projects', count(p.id) from unnest(people) a
    join projects.project p on p.bucket = kernel.bucket_of(a) and p.account_id = a;
end $$;
select kernel.plan_by_index('projects._belongings');

-- Takes everything out that erased people's projects hold, and them out of others' projects. Money,
-- jobs and audit hold ids only, and stay.
create function projects._forget_person(people uuid[], moment timestamptz) returns void
language plpgsql as $$
#variable_conflict use_variable
begin
    perform 1 from unnest(people) a
    join projects.project p on p.bucket = kernel.bucket_of(a) and p.account_id = a
    order by p.id for update of p;
    delete from projects.project p using unnest(people) a
    where p.bucket = kernel.bucket_of(a) and p.account_id = a;
    delete from projects.member m where m.account_id = any (people);
end $$;
select kernel.plan_by_index('projects._forget_person');
