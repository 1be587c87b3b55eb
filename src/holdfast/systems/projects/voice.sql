-- Voice: stage 4 speaks what stage 3 wrote. Work that is paid like a story: charge, job and the
-- text to be spoken are one transaction, so nobody pays for a script that changed while he paid.

-- A server sells voices before any worker has ever run; a worker then sets what it was told.
insert into queue.kind (kind, attempts, backoff_seconds, lease_seconds, deadline_seconds,
                        queue_deadline_seconds)
values ('voice', 3, 1, 30, 3600, 86400)
on conflict do nothing;

-- The texts of a script's scenes, which are texts or have one; an unreadable one is ''.
create function projects._texts(script jsonb) returns text[]
language plpgsql immutable as $$
begin
    if jsonb_typeof(script -> 'scenes') is distinct from 'array' then
        return '{}';
    end if;
    return coalesce((
        select array_agg(coalesce(btrim(case jsonb_typeof(e.scene)
                   when 'string' then e.scene #>> '{}'
                   when 'object' then case jsonb_typeof(e.scene -> 'text')
                                      when 'string' then e.scene ->> 'text' end end,
                   E' \t\r\n'), '') order by e.n)
        from jsonb_array_elements(script -> 'scenes') with ordinality as e(scene, n)), '{}');
end $$;

create function projects._words(texts text[]) returns bigint
language sql immutable parallel safe
return (select coalesce(sum(cardinality(regexp_split_to_array(t, '\s+'))), 0)
        from unnest(texts) t where t <> '');

-- What is wrong with texts that are to be spoken, in the order in which it is told; `at` counts
-- from 0.
create function projects._unspeakable(texts text[], out code text, out at int, out most int)
language plpgsql immutable as $$
begin
    if cardinality(texts) = 0 then
        code := 'script_missing';
    elsif cardinality(texts) > 100 then
        code := 'too_many'; most := 100;
    else
        select case when u.t = '' then 'required' else 'too_long' end, u.n - 1,
               case when u.t <> '' then 2500 end
        into code, at, most
        from unnest(texts) with ordinality as u(t, n)
        where u.t = '' or length(u.t) > 2500 order by u.n limit 1;
    end if;
end $$;

-- Orders the voice of a script: charged by its words, spoken scene by scene. The caller pays, the
-- owner or a member; once per key. A key used before is judged before the script is looked at, so a
-- replay answers the same whatever was written since. Outcomes: ok, insufficient_tokens,
-- idempotency_key_reused, script_missing, too_many, required, too_long (`at`: which scene, from 0;
-- `most`), no_such_stage, not_found.
create function projects.voice(
    project uuid, number int, actor uuid, family uuid[], key text, voice text default null,
    request_id text default null)
returns table (code text, job_id uuid, price bigint, needed bigint, available bigint,
               replayed boolean, at timestamptz, scene int, most int) language plpgsql as $$
#variable_conflict use_column
declare
    opened  record := projects._open(project, voice.number, family, null);
    p       projects.project := opened.p;
    source  projects.input;
    script  jsonb;
    texts   text[];
    wrong   record;
    paid    record;
begin
    select * into source from projects.input i
    where i.template = p.template and i.number = voice.number and i.path = '{finalScript}';
    if opened.code <> 'ok' or source.number is null then
        return query select case opened.code when 'ok' then 'no_such_stage' else opened.code end,
            null::uuid, 0::bigint, 0::bigint, 0::bigint, false, null::timestamptz, null::int,
            null::int;
        return;
    end if;
    select s.data #> source.path into script from projects.step s
    where s.bucket = p.bucket and s.project_id = p.id and s.number = source.from_number;
    texts := projects._texts(script);
    wrong := projects._unspeakable(texts);
    if wrong.code is not null and not exists (
        select from idempotency.key k where k.bucket = kernel.bucket_of(actor)
        and k.account_id = actor and k.verb = 'projects.voice' and k.key = voice.key) then
        return query select wrong.code, null::uuid, 0::bigint, 0::bigint, 0::bigint, false,
                            null::timestamptz, wrong.at, wrong.most;
        return;
    end if;
    select * into strict paid from queue.submit('projects.voice', array[actor], array['voice'],
        array[jsonb_build_object('project', p.id, 'step', voice.number, 'voice', voice.voice)],
        array[ledger._price_of('voice', projects._words(texts))], array[voice.key],
        array[null::uuid], array[voice.request_id]);
    if paid.code = 'ok' and not paid.replayed then
        perform projects._voiced(p, opened.s, voice.number, paid.job_id, actor, voice.voice, texts,
                                 voice.request_id, paid.at);
    end if;
    return query select paid.code, paid.job_id, paid.price, paid.needed, paid.available,
                        paid.replayed, paid.at, null::int, null::int;
end $$;
select kernel.plan_by_index('projects.voice');

-- The order itself. The stage is made from this script now; its data stays what it was.
create function projects._voiced(
    p projects.project, s projects.step, number int, job uuid, actor uuid, voice text,
    texts text[], request_id text, moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into projects.voicing (bucket, project_id, number, job_id, account_id, voice, scenes, at)
    values (p.bucket, p.id, number, job, actor, coalesce(voice, ''), to_jsonb(texts), moment);
    if coalesce(s.status, 'EMPTY') = 'EMPTY' then
        s := projects._write(p, number, s, '{}', null, null, 'DRAFT', 'save', actor, null,
                             request_id, moment);
    end if;
    perform projects._rebase(s);
end $$;
select kernel.plan_by_index('projects._voiced');

-- What a job is to speak, for the worker that makes it. A retry speaks what the job before it was
-- to speak, and is noted as an order of its own. No row: the project is gone.
create function projects.scenes(project uuid, job uuid)
returns table (voice text, texts text[]) language plpgsql as $$
#variable_conflict use_variable
declare
    v projects.voicing;
begin
    select * into v from projects.voicing x
    where x.bucket = kernel.bucket_of(project) and x.project_id = project and x.job_id = job;
    if v.job_id is null then
        with recursive line as (
            select j.retry_of, 1 as n from queue.job j
            where j.bucket = kernel.bucket_of(job) and j.id = job
            union all
            select j.retry_of, l.n + 1 from line l
            join queue.job j on j.bucket = kernel.bucket_of(l.retry_of) and j.id = l.retry_of)
        insert into projects.voicing (bucket, project_id, number, job_id, account_id, voice, scenes,
                                      at)
        select x.bucket, x.project_id, x.number, job, x.account_id, x.voice, x.scenes, kernel.now()
        from line l
        join projects.voicing x on x.bucket = kernel.bucket_of(project)
             and x.project_id = project and x.job_id = l.retry_of
        order by l.n limit 1
        on conflict on constraint voicing_pkey do nothing
        returning * into v;
    end if;
    if v.job_id is not null then
        return query select v.voice, array(select jsonb_array_elements_text(v.scenes));
    end if;
end $$;
select kernel.plan_by_index('projects.scenes');

-- The orders for a voice in a project, newest first, for those who may see the project: what a
-- member had spoken the others hear too. `owners` is who to ask the queue for.
create function projects.voicings(project uuid, family uuid[], at_most int)
returns table (job_id uuid, account_id uuid, number int, voice text, status text, price bigint,
               refunded boolean, progress jsonb, error_code text, error_detail text,
               at timestamptz) language plpgsql stable as $$
#variable_conflict use_variable
begin
    return query
    select v.job_id, v.account_id, v.number::int, v.voice, j.status, j.price,
           j.refund_seq is not null, r.progress, j.error_code, j.error_detail, v.at
    from projects.voicing v
    join queue.job j on j.bucket = kernel.bucket_of(v.job_id) and j.id = v.job_id
    left join queue.job_ready r on r.bucket = j.bucket and r.id = j.id
    where v.bucket = kernel.bucket_of(project) and v.project_id = project
      and exists (select from projects.project p where p.bucket = v.bucket and p.id = project
                  and projects._seat(p, family) is not null)
    order by v.at desc, v.job_id desc limit at_most;
end $$;
select kernel.plan_by_index('projects.voicings');
