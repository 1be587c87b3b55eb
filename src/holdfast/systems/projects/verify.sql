-- What must be true of every project, for `holdfast verify`.

-- A step's marks and its status agree, and its newest revision is what it holds.
create function projects._verify_steps_hold_together(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select s.id, s.version < 1 or s.status = 'EMPTY'
               or (s.status = 'COMPLETED') <> (s.completed_at is not null)
               or (s.status = 'SKIPPED' and s.skip_reason = '')
               or r.version is distinct from s.version or r.data is distinct from s.data as bad
        from projects.step s
        left join lateral (
            select v.version, v.data from projects.revision v
            where v.bucket = s.bucket and v.project_id = s.project_id and v.number = s.number
            order by v.version desc limit 1) r on true
        where s.bucket between first and last) x
$$;
comment on function projects._verify_steps_hold_together is
    'the status, times and newest revision of every step agree with what it holds';

-- The stale mark says what the values say.
create function projects._verify_stale_marks_are_true(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.id::text) filter (where x.bad)
    from (
        select s.id, s.stale <> coalesce((
                   select bool_or(n.digest <> b.digest and n.digest is distinct from b.kept)
                   from projects.basis b
                   left join projects.step e on e.bucket = b.bucket
                        and e.project_id = b.project_id and e.number = b.from_number
                   cross join lateral (select projects._digest(e.data #> b.path) as digest) n
                   where b.bucket = s.bucket and b.project_id = s.project_id
                     and b.number = s.number), false) as bad
        from projects.step s where s.bucket between first and last) x
$$;
comment on function projects._verify_stale_marks_are_true is
    'a step is marked stale exactly when what it was made from has changed';

-- A paid voice has its order, and a completed one a file for each scene.
create function projects._verify_voices_are_whole(
    first int, last int, out checked bigint, out violations bigint, out example text)
language sql stable as $$
    select count(*), count(*) filter (where x.bad), min(x.job_id::text) filter (where x.bad)
    from (
        select v.job_id, j.id is null or j.kind <> 'voice' or coalesce(f.files, 0) <>
               case j.status when 'completed' then jsonb_array_length(v.scenes) else 0 end as bad
        from projects.voicing v
        left join queue.job j on j.bucket = kernel.bucket_of(v.job_id) and j.id = v.job_id
        left join lateral (
            select count(*) as files from queue.artifact a
            where a.bucket = j.bucket and a.job_id = j.id and not a.late) f on true
        where v.bucket between first and last) x
$$;
comment on function projects._verify_voices_are_whole is
    'a completed voice has one file for each scene; any other has none';
