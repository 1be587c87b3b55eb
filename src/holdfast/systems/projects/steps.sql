-- Steps: saved leniently, completed strictly, skipped with a reason.

-- Writes a step under the project's lock, whatever was there before, with its revision, and judges
-- what hangs on it. From one status to another along declared edges only: where none leads there
-- straight (a first save that says it is completed) by way of DRAFT.
create function projects._write(
    p projects.project, number int, s projects.step, content jsonb, done_at timestamptz,
    skipped_for text, target text, verb text, actor uuid, tab text, request_id text,
    moment timestamptz)
returns projects.step language plpgsql as $$
#variable_conflict use_variable
declare
    before text := coalesce(s.status, 'EMPTY');
begin
    if s.id is null then
        insert into projects.step (bucket, id, project_id, number, created_at, updated_at)
        values (p.bucket, kernel.new_id(p.bucket), p.id, number, moment, moment)
        returning * into s;
    end if;
    if (before, target) in (('EMPTY', 'COMPLETED'), ('SKIPPED', 'COMPLETED'),
                            ('COMPLETED', 'SKIPPED')) then
        update projects.step x set status = 'DRAFT', completed_at = null
        where x.bucket = s.bucket and x.id = s.id;
        perform projects._trace(p, 'step', s.id, case before when 'COMPLETED' then 'reopen'
            else 'save' end, before, 'DRAFT', jsonb_build_object('step', number), actor, null,
            request_id, moment);
        before := 'DRAFT';
    end if;
    update projects.step x
    set status = target, data = content, completed_at = done_at, skip_reason = skipped_for,
        version = x.version + 1, updated_at = moment
    where x.bucket = s.bucket and x.id = s.id
    returning * into s;
    if before <> target or verb <> 'save' then
        perform projects._trace(p, 'step', s.id, case
                when verb <> 'save' or before = 'EMPTY' and target = 'DRAFT' then verb
                when target = 'COMPLETED' then 'complete'
                when target = 'SKIPPED' then 'skip'
                else 'reopen' end,
            before, target, jsonb_build_object('step', number, 'version', s.version), actor,
            case target when 'SKIPPED' then skipped_for end, request_id, moment);
    end if;
    perform projects._remember(s, actor, tab, request_id, moment);
    perform projects._found_on(p, s);
    perform projects._age(p, number);
    return s;
end $$;
select kernel.plan_by_index('projects._write');

-- A revision for each version; past the bound goes first what the same tab saved again soon after
-- (autosaves are keystrokes, not decisions), then the oldest. Never the present one.
create function projects._remember(
    s projects.step, actor uuid, tab text, request_id text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    surplus bigint;
begin
    insert into projects.revision (bucket, project_id, number, version, data, by, tab, request_id,
                                   at)
    values (s.bucket, s.project_id, s.number, s.version, s.data, actor, tab, request_id, moment);
    select count(*) - greatest(1, kernel.setting_number('step_revisions')) into surplus
    from projects.revision r
    where r.bucket = s.bucket and r.project_id = s.project_id and r.number = s.number;
    if surplus <= 0 then
        return;
    end if;
    delete from projects.revision r using (
        select x.version from (
            select v.version,
                   coalesce(v.tab = lead(v.tab) over w
                            and v.at > lead(v.at) over w - interval '5 minutes', false) as passing
            from projects.revision v
            where v.bucket = s.bucket and v.project_id = s.project_id and v.number = s.number
            window w as (order by v.version)) x
        where x.version < s.version
        order by x.passing desc, x.version
        limit surplus) d
    where r.bucket = s.bucket and r.project_id = s.project_id and r.number = s.number
      and r.version = d.version;
end $$;
select kernel.plan_by_index('projects._remember');

-- Notes what a step is made from, once per input: what it was made from does not change because
-- somebody types in it. A skipped step is made from nothing.
create function projects._found_on(p projects.project, s projects.step)
returns void language plpgsql as $$
begin
    if s.status = 'SKIPPED' then
        delete from projects.basis b
        where b.bucket = s.bucket and b.project_id = s.project_id and b.number = s.number;
        update projects.step x set stale = false
        where x.bucket = s.bucket and x.id = s.id and x.stale;
        return;
    end if;
    insert into projects.basis (bucket, project_id, number, from_number, path, digest, value)
    select s.bucket, s.project_id, s.number, i.from_number, i.path,
           projects._digest(e.data #> i.path), e.data #> i.path
    from projects.input i
    left join projects.step e on e.bucket = s.bucket and e.project_id = s.project_id
         and e.number = i.from_number
    where i.template = p.template and i.number = s.number
    on conflict (bucket, project_id, number, from_number, path) do nothing;
end $$;
select kernel.plan_by_index('projects._found_on');

-- Works out anew which steps that use this one are stale.
create function projects._age(p projects.project, changed int)
returns void language plpgsql as $$
begin
    update projects.step t
    set stale = x.stale
    from (
        select b.number, bool_or(n.digest <> b.digest and n.digest is distinct from b.kept) as stale
        from projects.basis b
        left join projects.step e on e.bucket = b.bucket and e.project_id = b.project_id
             and e.number = b.from_number
        cross join lateral (select projects._digest(e.data #> b.path) as digest) n
        where b.bucket = p.bucket and b.project_id = p.id and b.number >= changed
        group by b.number) x
    where t.bucket = p.bucket and t.project_id = p.id and t.number = x.number
      and t.stale <> x.stale;
end $$;
select kernel.plan_by_index('projects._age');

-- Saves a step: made when it is not there, changed when it is. `content` null keeps the data,
-- `merging` merges it as a patch; completed_at and skip_reason count only where they are `given`.
-- With a key it happens once. Outcomes: ok (`was_new`: it was not there before; `late`: an autosave
-- older than one that this tab already made, so nothing changed), version_mismatch, too_large,
-- idempotency_key_reused, no_such_stage, not_found.
create function projects.save(
    project uuid, number int, actor uuid, family uuid[], content jsonb, merging boolean,
    completed_given boolean, completed_at timestamptz, skip_given boolean, skip_reason text,
    if_version int default null, only_new boolean default false, tab text default null,
    tab_seq bigint default null, key text default null, request_id text default null)
returns table (code text, was_new boolean, late boolean, replayed boolean, most bigint,
               seen projects.step_seen)
language plpgsql as $$
#variable_conflict use_variable
declare
    opened  record := projects._open(project, number, family, if_version);
    s       projects.step := opened.s;
    moment  timestamptz := kernel.now();
    done_at timestamptz := case when completed_given then completed_at else s.completed_at end;
    reason  text := case when skip_given then skip_reason else s.skip_reason end;
    fresh   jsonb := coalesce(s.data, '{}');
    once    record;
begin
    code := opened.code; late := false;
    was_new := s.id is null and code = 'ok';
    most := kernel.setting_number('step_bytes_max');
    once := projects._once(code, project, number, actor, key, jsonb_build_array(content, merging,
        completed_given, completed_at, skip_given, skip_reason)::text);
    replayed := once.standing = 'replay';
    if replayed then
        code := 'ok'; was_new := once.was_new_then;
    elsif once.standing = 'idempotency_key_reused' then
        code := once.standing;
    elsif code in ('ok', 'version_mismatch') and tab is not null then
        late := not projects._turn(opened.p, number, actor, tab, tab_seq, code = 'ok', moment);
    end if;
    if late then
        code := 'ok'; was_new := false;
    elsif code = 'ok' and only_new and s.id is not null and not replayed then
        code := 'version_mismatch';
    elsif code = 'ok' and not replayed then
        fresh := case when content is null then fresh when merging
                 then projects._merge(fresh, content) else content end;
        if octet_length(fresh::text) > most then
            code := 'too_large';
        else
            perform projects._write(opened.p, number, s, fresh, done_at, reason, case
                    when done_at is not null then 'COMPLETED'
                    when skip_given and reason <> '' then 'SKIPPED'
                    when s.status = 'SKIPPED' and content is null and not skip_given
                        then 'SKIPPED'
                    else 'DRAFT' end,
                'save', actor, tab, request_id, moment);
            perform projects._bind(project, number, actor, key, once.print, was_new, moment);
        end if;
    end if;
    return query select t.code, was_new, late, replayed, most, t.seen
        from projects._tell(code, project, number) t;
end $$;
select kernel.plan_by_index('projects.save');

-- How a keyed save stands: fresh, replay (with what came of it), idempotency_key_reused. The
-- project is locked, and the key belongs to it: nobody else decides about it meanwhile.
create function projects._once(
    code text, project uuid, number int, actor uuid, key text, payload text,
    out standing text, out was_new_then boolean, out print bytea)
language plpgsql as $$
#variable_conflict use_variable
declare
    bound idempotency.key;
begin
    standing := 'fresh';
    if key is null or code not in ('ok', 'version_mismatch') then
        return;
    end if;
    print := idempotency._fingerprint(payload);
    select * into bound from idempotency.key k
    where k.bucket = kernel.bucket_of(actor) and k.account_id = actor and k.key = key
      and k.verb = format('projects.save:%s:%s', project, number);
    if bound.key is not null then
        standing := case when bound.fingerprint = print then 'replay'
                    else 'idempotency_key_reused' end;
        was_new_then := (bound.outcome ->> 'created')::boolean;
    end if;
end $$;
select kernel.plan_by_index('projects._once');

create function projects._bind(
    project uuid, number int, actor uuid, key text, print bytea, was_new boolean,
    moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    if key is not null then
        insert into idempotency.key (bucket, account_id, verb, key, fingerprint, result_id, outcome,
                                     forget_at, at)
        values (kernel.bucket_of(actor), actor, format('projects.save:%s:%s', project, number), key,
                print, project, jsonb_build_object('created', was_new),
                moment + make_interval(hours => kernel.setting_number('idempotency_hours')::int),
                moment);
    end if;
end $$;
select kernel.plan_by_index('projects._bind');

-- Whether an autosave is its tab's turn; where it is and `taken` it is noted. Tabs that were silent
-- for a week are forgotten.
create function projects._turn(
    p projects.project, number int, actor uuid, tab text, seq bigint,
    taken boolean, moment timestamptz)
returns boolean language plpgsql as $$
#variable_conflict use_variable
begin
    if exists (select from projects.tab t where t.bucket = p.bucket and t.project_id = p.id
               and t.number = number and t.account_id = actor and t.tab = tab and t.seq >= seq) then
        return false;
    end if;
    if taken then
        delete from projects.tab t where t.bucket = p.bucket and t.project_id = p.id
            and t.number = number and t.at < moment - interval '7 days';
        insert into projects.tab (bucket, project_id, number, account_id, tab, seq, at)
        values (p.bucket, p.id, number, actor, tab, seq, moment)
        on conflict on constraint tab_pkey
            do update set seq = excluded.seq, at = excluded.at;
    end if;
    return true;
end $$;
select kernel.plan_by_index('projects._turn');

-- Completes a step whose data, as of `checked_version`, was found to satisfy its stage's schema.
-- What is completed stays as it was. Outcomes: ok, changed (the data is another by now: check it
-- again), step_locked (`missing`: earlier required stages), wrong_status, version_mismatch,
-- no_such_stage, not_found.
create function projects.complete(
    project uuid, number int, actor uuid, family uuid[], checked_version int,
    if_version int default null, request_id text default null)
returns table (code text, missing jsonb, seen projects.step_seen) language plpgsql as $$
#variable_conflict use_variable
declare
    opened record := projects._open(project, number, family, if_version);
    s      projects.step := opened.s;
    moment timestamptz := kernel.now();
begin
    code := opened.code;
    if code = 'ok' then
        missing := projects._missing(opened.p, number);
        code := case
            when missing is not null then 'step_locked'
            when coalesce(s.version, 0) <> checked_version then 'changed'
            when s.status = 'COMPLETED' then 'completed'
            when s.status is distinct from 'DRAFT' then 'wrong_status'
            else 'ok' end;
    end if;
    if code = 'ok' then
        perform projects._write(opened.p, number, s, s.data, moment, s.skip_reason, 'COMPLETED',
                                'complete', actor, null, request_id, moment);
    end if;
    return query select t.code, missing, t.seen
        from projects._tell(case code when 'completed' then 'ok' else code end, project, number) t;
end $$;
select kernel.plan_by_index('projects.complete');

create function projects._missing(p projects.project, number int) returns jsonb
language plpgsql stable as $$
#variable_conflict use_variable
begin
    return (select jsonb_agg(jsonb_build_object('stepNumber', x.step_number, 'name', x.name)
                             order by x.step_number)
            from projects.step_seen x
            where x.bucket = p.bucket and x.project_id = p.id and x.step_number < number
              and x.required and x.status not in ('COMPLETED', 'SKIPPED'));
end $$;
select kernel.plan_by_index('projects._missing');

-- Passes a step by, with the reason. Again: the last reason counts. Outcomes: ok, wrong_status,
-- version_mismatch, no_such_stage, not_found.
create function projects.skip(
    project uuid, number int, actor uuid, family uuid[], reason text,
    if_version int default null, request_id text default null)
returns table (code text, seen projects.step_seen) language plpgsql as $$
#variable_conflict use_variable
declare
    opened record := projects._open(project, number, family, if_version);
    s      projects.step := opened.s;
begin
    code := opened.code;
    if code = 'ok' and s.status = 'COMPLETED' then
        code := 'wrong_status';
    elsif code = 'ok' and (s.status, s.skip_reason) is distinct from ('SKIPPED', reason) then
        perform projects._write(opened.p, number, s, coalesce(s.data, '{}'), null, reason,
                                'SKIPPED', 'skip', actor, null, request_id, kernel.now());
    end if;
    return query select t.code, t.seen from projects._tell(code, project, number) t;
end $$;
select kernel.plan_by_index('projects.skip');
