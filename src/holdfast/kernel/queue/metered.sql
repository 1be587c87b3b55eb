-- The queue, for kinds priced by use: reserve the estimate, settle to what was used, give the rest
-- back. The job holds credit (ledger.hold) instead of having been charged; it cannot be captured or
-- released by anybody but the job, and has no end of its own: the job's deadlines are its end.

-- Hold + job, once per key, in one round trip. `estimate` is the most that may be settled.
create function queue.reserve(
    verb text, account uuid, kind text, payload jsonb, estimate bigint, key text,
    request_id text default null, asset text default 'crystal', retry_of uuid default null)
returns table (code text, job_id uuid, price bigint, needed bigint, available bigint,
               replayed boolean, at timestamptz)
language plpgsql as $$
#variable_conflict use_variable
declare
    moment timestamptz;
    print  bytea := idempotency._fingerprint(concat_ws(' ', kind, payload, estimate, retry_of));
    judged record;
    job    uuid := kernel.new_id(kernel.bucket_of(account));
    hold   uuid;
begin
    if cardinality(ledger._lock(array[account], true)) = 0 then
        return query select 'not_found', null::uuid, estimate, estimate, null::bigint, false,
                            null::timestamptz;
        return;
    end if;
    moment := kernel.now();
    perform ledger._expire_due(array[account], asset, moment);
    judged := idempotency._judge(array[account], verb, array[key], array[print]);
    if judged.standings[1] = 'replay' then
        return query select 'ok', j.id, j.price, j.price, null::bigint, true, j.created_at
            from queue.job j where j.bucket = kernel.bucket_of(account)
            and j.id = judged.results[1];
    elsif judged.standings[1] <> 'fresh' then
        return query select judged.standings[1], null::uuid, estimate, estimate, null::bigint,
                            false, moment;
    else
        perform queue._require_kinds(array[kind]);
        hold := ledger._reserve(account, asset, estimate, 'job:' || job,
                                moment + interval '10 years', moment, request_id);
        if hold is not null then
            perform queue._enqueue_reserved(verb, job, account, kind, payload, asset, estimate,
                                            hold, key, print, request_id, moment, retry_of);
        end if;
        return query select case when hold is null then 'insufficient_tokens' else 'ok' end,
            case when hold is not null then job end, estimate, estimate, w.balance - w.held,
            false, moment
            from ledger.wallet w where w.bucket = kernel.bucket_of(account)
            and w.account_id = account and w.asset = asset;
    end if;
end $$;

create function queue._enqueue_reserved(
    verb text, job uuid, account uuid, called text, payload jsonb, asset text, estimate bigint,
    hold uuid, key text, print bytea, request_id text, at timestamptz, retry_of uuid)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    k     queue.kind;
    home  smallint := kernel.bucket_of(account);
    event uuid := kernel.new_id(home);
begin
    select * into strict k from queue.kind x where x.kind = called;
    insert into queue.job (bucket, id, account_id, kind, payload, asset, price, hold_id, attempts,
                           request_id, retry_of, created_at)
    values (home, job, account, called, payload, asset, estimate, hold, k.attempts, request_id,
            retry_of, at);
    insert into queue.job_ready (bucket, id, account_id, kind, run_at, due_at, metered)
    values (home, job, account, called, at, at + make_interval(secs => k.queue_deadline_seconds),
            true);
    perform idempotency._bind(array[account], verb, array[key], array[print], array[job], at);
    perform audit._record('job', verb, array[event], array[job], array[null::text],
        array['queued'], array[account::text], array[null::text], array[request_id], at);
    perform outbox._append(array[account], array[event], array['jobs.queued'],
        array[jsonb_build_object('job', job, 'kind', called, 'charged', 0, 'held', estimate)],
        array[request_id], at);
    perform queue._wake();
end $$;

-- Completes a job priced by use: takes `used` of what it holds, gives the rest back. Outcomes: ok,
-- capture_exceeds_hold (nothing changed: the lease is still held), lease_lost, not_found.
create function queue.settle(job uuid, token uuid, result jsonb, used bigint)
returns table (code text, status text, captured bigint)
language plpgsql as $$
#variable_conflict use_column
declare
    held   record;
    j      queue.job;
    h      ledger.hold;
    moment timestamptz;
begin
    held := queue._hold_leases(array[job], array[token], true, true);
    moment := kernel.now();
    select * into j from queue.job x where x.bucket = kernel.bucket_of(job) and x.id = job;
    if cardinality(held.ords) = 0 then
        return query select case
            when j.id is null then 'not_found'
            when j.status = 'completed' and j.token = settle.token then 'ok'
            when queue._keep_late(j, result, moment) then 'lease_lost' end, j.status, j.captured;
        return;
    end if;
    select * into strict h from ledger.hold x where x.bucket = j.bucket and x.id = j.hold_id;
    if used > h.amount then
        return query select 'capture_exceeds_hold', j.status, 0::bigint;
        return;
    end if;
    perform ledger._end_hold(h, case used when 0 then 'RELEASED' else 'CAPTURED' end, used,
                             held.workers[1], moment, j.request_id);
    update queue.job x
    set status = 'completed', result = settle.result, token = settle.token, captured = used,
        finished_at = moment, version = x.version + 1
    where x.bucket = j.bucket and x.id = j.id;
    perform queue._after_finish(held.ids, held.places, held.accounts, held.kinds, held.workers,
                                held.idle, moment);
    return query select 'ok', 'completed', used;
end $$;

-- What a job that will not be delivered had reserved goes back.
create function queue._release_reserved(j queue.job, actor text, moment timestamptz)
returns void language plpgsql as $$
declare
    h ledger.hold;
begin
    select * into strict h from ledger.hold x where x.bucket = j.bucket and x.id = j.hold_id;
    perform ledger._end_hold(h, 'RELEASED', 0, actor, moment, j.request_id);
end $$;
