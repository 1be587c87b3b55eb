-- Stories: a person pays crystals, a worker writes. Paid and made, or refunded once. Never both,
-- never neither.
--
-- There is no moment between the charge and the job: queue.submit writes both. There is none
-- between the failing status and the refund either: queue.fail writes both. What is left for this
-- file is what a story is: its price and its payload.

-- A server sells stories before any worker has ever run; a worker then sets what it was told.
insert into queue.kind (kind, attempts, backoff_seconds, lease_seconds, deadline_seconds,
                        queue_deadline_seconds)
values ('story', 3, 1, 30, 3600, 86400)
on conflict do nothing;

-- 50 for up to 500 words, then by the started 500 (ledger.price, kind 'story').
create function stories.generate(
    accounts uuid[], prompts text[], languages text[], words int[], keys text[],
    request_ids text[], retry_ofs uuid[] default null, wait boolean default true)
returns table (ord int, code text, job_id uuid, price bigint, needed bigint, available bigint,
               replayed boolean, at timestamptz)
language plpgsql as $$
#variable_conflict use_variable
declare
    prices   bigint[];
    payloads jsonb[];
    per_step ledger.price;
begin
    select * into strict per_step from ledger.price p
    where p.kind = 'story' and p.since <= kernel.now() order by p.version desc limit 1;
    select array_agg(per_step.amount * greatest(1, (u.words + per_step.per - 1) / per_step.per)),
           array_agg(jsonb_build_object('prompt', u.prompt, 'language', u.language,
                                        'words', u.words))
    into prices, payloads
    from unnest(prompts, languages, words) as u(prompt, language, words);
    return query select * from queue.submit('stories.generate', accounts,
        array_fill('story'::text, array[cardinality(accounts)]), payloads, prices, keys,
        coalesce(retry_ofs, array_fill(null::uuid, array[cardinality(accounts)])), request_ids,
        'crystal', wait);
end $$;
select kernel.plan_by_index('stories.generate');

-- Another try at a story that failed or was cancelled, at today's price. See queue.retry.
create function stories.retry(job uuid, owners uuid[], account uuid, key text,
                              request_id text default null)
returns table (code text, job_id uuid, price bigint, needed bigint, available bigint,
               replayed boolean, at timestamptz, payload jsonb, status text)
language plpgsql as $$
#variable_conflict use_column
declare
    old queue.job;
begin
    select * into old from queue.job j
    where j.bucket = kernel.bucket_of(job) and j.id = job and j.kind = 'story';
    return query select r.* from queue.retry('stories.retry', old.id, owners, account, key,
        ledger._price_of('story', (old.payload ->> 'words')::bigint), request_id) r;
end $$;
