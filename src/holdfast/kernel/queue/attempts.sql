-- The queue, for handlers with tables of their own.
--
-- A finish inside the handler's own transaction, beside his rows. Elsewhere a lost lease is an
-- answer; here it is raised, because it must take those rows with it: the transaction is aborted,
-- and a handler that is stale has written nothing anywhere.

-- Completes one job within the caller's transaction; `used` is for kinds priced by use. Raises
-- KH004 when the lease is lost, KH005 for a use that may not be settled.
create function queue.finish_within(job uuid, token uuid, result jsonb, used bigint default null)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    code text;
begin
    if used is null then
        select f.code into strict code from queue.finish(array[job], array[token], array[result]) f;
    else
        select s.code into strict code from queue.settle(job, token, result, used) s;
    end if;
    if code in ('capture_exceeds_hold', 'usage_required') then
        raise exception 'job % may not be settled: %', job, code
            using errcode = 'KH005', hint = 'Say what was used, at most the estimate.';
    elsif code <> 'ok' then
        raise exception 'the lease of job % is lost', job
            using errcode = 'KH004', hint = 'Somebody else decides about this job: write nothing.';
    end if;
end $$;
