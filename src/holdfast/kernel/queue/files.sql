-- Files that a handler keeps. They are written by the attempt that holds the lease, in the
-- transaction in which it finishes: of a stale attempt, or of one that failed, there are none.

-- Keeps one file of a job as its artifact `n`. Raises KH004 when the lease is lost, which takes the
-- caller's transaction with it.
create function queue.keep_file(
    job uuid, token uuid, n int, name text, media_type text, seconds double precision, data bytea)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    attempt smallint;
begin
    select r.attempt into attempt from queue.job_ready r
    where r.bucket = kernel.bucket_of(job) and r.id = job and r.token = token for update;
    if attempt is null then
        raise exception 'the lease of job % is lost', job
            using errcode = 'KH004', hint = 'Somebody else decides about this job: write nothing.';
    end if;
    insert into queue.artifact (bucket, job_id, n, attempt, name, media_type, seconds, data, at)
    values (kernel.bucket_of(job), job, n, attempt, name, media_type, seconds, data, kernel.now());
end $$;
select kernel.plan_by_index('queue.keep_file');
