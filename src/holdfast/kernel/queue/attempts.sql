-- The queue, for handlers with tables of their own.
--
-- A finish inside the handler's own transaction, beside his rows. Elsewhere a lost lease is an
-- answer; here it is raised, because it must take those rows with it: the transaction is aborted,
-- and a handler that is stale has written nothing anywhere.

-- Completes one job within the caller's transaction. Raises KH004 when the lease is lost.
create function queue.finish_within(job uuid, token uuid, result jsonb)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    code text;
begin
    select f.code into strict code from queue.finish(array[job], array[token], array[result]) f;
    if code <> 'ok' then
        raise exception 'the lease of job % is lost', job
            using errcode = 'KH004', hint = 'Somebody else decides about this job: write nothing.';
    end if;
end $$;
