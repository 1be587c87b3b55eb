-- Mend: what verify finds is corrected by entries and moves that say why, never by overwriting.
-- Only the owner may; `holdfast mend` calls it after it has shown what it would do.

-- Jobs that ended without the refund they are owed (hand-written SQL, a restored backup).
create function verify._unrefunded()
returns table (job uuid, account uuid, amount bigint)
language sql stable as $$
    select j.id, j.account_id, j.price from queue.job j
    where j.status in ('failed', 'cancelled') and j.charge_seq is not null
      and j.refund_seq is null
$$;

-- Jobs that nobody will ever claim: not finished, and without their place in the queue.
create function verify._unplaced()
returns table (job uuid, account uuid, amount bigint)
language sql stable as $$
    select j.id, j.account_id, j.price from queue.job j
    where j.status in ('queued', 'processing')
      and not exists (select from queue.job_ready r where r.bucket = j.bucket and r.id = j.id)
$$;

-- What mend would do now.
create function verify._mendable()
returns table (what text, job uuid, account uuid, amount bigint)
language sql stable as $$
    select 'refund', u.job, u.account, u.amount from verify._unrefunded() u
    union all
    select 'queue again', u.job, u.account, u.amount from verify._unplaced() u
$$;

-- Mends one job; returns what was done, or null when nothing was wrong with it any more.
create function verify._mend(job uuid, actor text, reason text)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    j      queue.job;
    moment timestamptz;
    event  uuid := kernel.new_id(kernel.bucket_of(job));
    seq    bigint;
begin
    select * into j from queue.job x
    where x.bucket = kernel.bucket_of(job) and x.id = job for update;
    perform ledger._lock(array[j.account_id], true);
    moment := kernel.now();
    if j.status in ('failed', 'cancelled') and j.charge_seq is not null
       and j.refund_seq is null then
        seq := ledger._refund(j.account_id, j.asset, j.charge_seq, 'job:' || j.id, event, moment,
                              actor, reason);
        update queue.job x
        set version = x.version + 1, refund_seq = coalesce(seq,
            (select n.seq from ledger.entry n where n.bucket = j.bucket
             and n.account_id = j.account_id and n.kind = 'refund' and n.cause = 'job:' || j.id))
        where x.bucket = j.bucket and x.id = j.id;
        perform audit._record('job', 'verify.mend', array[event], array[j.id], array[j.status],
                              array[j.status], array[actor], array[reason], array[null::text],
                              moment);
        return 'refund';
    elsif j.status in ('queued', 'processing') and not exists (
        select from queue.job_ready r where r.bucket = j.bucket and r.id = j.id) then
        insert into queue.job_ready (bucket, id, account_id, kind, run_at, attempt, due_at)
        select j.bucket, j.id, j.account_id, j.kind, moment, j.attempt,
               moment + make_interval(secs => k.queue_deadline_seconds)
        from queue.kind k where k.kind = j.kind;
        update queue.job x set status = 'queued', version = x.version + 1
        where x.bucket = j.bucket and x.id = j.id;
        perform audit._record('job', 'verify.mend', array[event], array[j.id], array[j.status],
                              array['queued'], array[actor], array[reason], array[null::text],
                              moment);
        return 'queue again';
    end if;
    return null;
end $$;
