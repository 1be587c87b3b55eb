-- Forgetting: what a person asked for and got goes; that there was a job, and what it cost, stays.

-- The places in the queue of these people's jobs, locked in id order.
create function queue._lock_live(people uuid[]) returns queue.job_ready[]
language plpgsql as $$
#variable_conflict use_variable
declare
    live queue.job_ready[];
begin
    select array_agg(t.r) into live from (
        select r from queue.job_ready r join unnest(people) p
        on r.bucket = kernel.bucket_of(p) and r.account_id = p
        order by r.id for update of r) t;
    return coalesce(live, '{}');
end $$;

create function queue._forget_content(people uuid[]) returns void language plpgsql as $$
#variable_conflict use_variable
begin
    delete from queue.artifact a using queue.job j join unnest(people) p
        on j.bucket = kernel.bucket_of(p) and j.account_id = p
    where a.bucket = j.bucket and a.job_id = j.id;
    delete from queue.job_chunk c using queue.job j join unnest(people) p
        on j.bucket = kernel.bucket_of(p) and j.account_id = p
    where c.bucket = j.bucket and c.job_id = j.id;
    update queue.job j
    set payload = '{}', result = null, error_detail = null, version = j.version + 1
    from unnest(people) p
    where j.bucket = kernel.bucket_of(p) and j.account_id = p;
end $$;
