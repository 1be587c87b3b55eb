-- Artifacts: what a job leaves beside its result. Files a handler kept, and the text of a worker
-- whose lease was lost: kept, unpaid, marked `late`, and never the result.

-- The artifacts of a job, without their bytes. A job of somebody else has none.
create function queue.artifacts(job uuid, owners uuid[])
returns table (n int, name text, media_type text, late boolean, bytes int,
               seconds double precision, at timestamptz)
language sql stable as $$
    select a.n, a.name, a.media_type, a.late, octet_length(a.data), a.seconds, a.at
    from queue.job j
    join queue.artifact a on a.bucket = j.bucket and a.job_id = j.id
    where j.bucket = kernel.bucket_of(job) and j.id = job
      and (owners is null or j.account_id = any (owners))
    order by a.n
$$;

-- One artifact with `most` of its bytes after `skip`; a negative skip counts from the end.
create function queue.artifact(job uuid, n int, owners uuid[], skip bigint, most bigint)
returns table (name text, media_type text, late boolean, bytes int, seconds double precision,
               at timestamptz, first int, data bytea)
language sql stable as $$
    select a.name, a.media_type, a.late, s.bytes, a.seconds, a.at, s.first,
           substring(a.data from s.first + 1 for least(most, 8388608)::int)
    from queue.job j
    join queue.artifact a on a.bucket = j.bucket and a.job_id = j.id and a.n = artifact.n
    cross join lateral (
        select octet_length(a.data) as bytes,
               case when skip < 0 then greatest(0, octet_length(a.data) + skip)
                    else least(skip, octet_length(a.data)) end::int as first) s
    where j.bucket = kernel.bucket_of(job) and j.id = job
      and (owners is null or j.account_id = any (owners))
$$;
