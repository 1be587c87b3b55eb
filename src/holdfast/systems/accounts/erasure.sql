-- Erasure: a person leaves. What is his is ended and forgotten; what was counted stays counted.
--
-- Entries, audit and effects hold only ids and stay, balanced: jobs under way are cancelled with
-- their refund, holds released, and what is left is forfeited by an entry. Of the identities a
-- keyed hash stays, so that somebody who comes again gets an account and no second bonus.
--
-- Locks as everywhere: jobs, then rows of systems, then wallets. A job that was added while we
-- waited for the wallet would have to be locked out of turn: then all is undone, and tried again.

-- Erases a person with all his aliases. Outcomes: ok, not_found.
create function accounts.erase(account uuid, actor text, request_id text default null)
returns text language plpgsql as $$
#variable_conflict use_variable
declare
    family uuid[];
    live   queue.job_ready[];
    moment timestamptz;
    hook   text;
begin
    perform accounts._one_link_at_a_time();
    select array_agg(a.id order by a.id) into family from accounts.account a
    where (a.bucket = kernel.bucket_of(account) and a.id = account and a.status = 'ACTIVE')
       or a.alias_of = account;
    if family is null or not account = any (family) then
        return 'not_found';
    end if;
    live := queue._lock_live(family);
    perform 1 from unnest(family) f
    join accounts.account a on a.bucket = kernel.bucket_of(f) and a.id = f
    order by a.id for update of a;
    for hook in select h from accounts._hooks('_forget_person') h loop
        continue when hook like 'outbox.%';     -- follows the account's status by itself
        execute format('select %s($1, $2)', hook) using family, kernel.now();
    end loop;
    perform ledger._lock(family, true);
    moment := kernel.now();
    if cardinality(live) <> (select count(*) from queue.job_ready r join unnest(family) p
                             on r.bucket = kernel.bucket_of(p) and r.account_id = p) then
        raise exception 'a job was added to an account that is being erased'
            using errcode = '40001';
    end if;
    update ledger.wallet w set forward_to = null from unnest(family) f
    where w.bucket = kernel.bucket_of(f) and w.account_id = f;
    perform queue._close(r, 'cancel', 'cancelled', 'cancelled', null, actor, request_id, moment)
    from unnest(live) r;
    perform queue._forget_content(family);
    perform ledger._forfeit(family, actor, request_id, moment);
    perform accounts._forget_identities(family, moment);
    perform accounts._trace(a.id, 'erase', a.status, 'ERASED', actor, null, a.id,
                            'accounts.erased', request_id, moment)
    from unnest(family) f
    join accounts.account a on a.bucket = kernel.bucket_of(f) and a.id = f;
    update accounts.account a
    set status = 'ERASED', alias_of = null, name = null, quiet_hours = null, locale = 'en',
        time_zone = 'UTC', role = 'user', erased_at = moment, version = a.version + 1
    from unnest(family) f where a.bucket = kernel.bucket_of(f) and a.id = f;
    return 'ok';
end $$;

-- The same, by an identity: whoever keeps identities says that one is gone.
create function accounts.forget(kind text, subject text, actor text, request_id text default null)
returns text language plpgsql as $$
begin
    return accounts.erase(accounts._account_of(kind, subject), actor, request_id);
end $$;

create function accounts._forget_identities(family uuid[], moment timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into accounts.past_person (bucket, hash, at)
    select i.bucket, accounts._hash(k.key, i.kind, i.subject), moment
    from accounts.identity i cross join accounts._key k where i.account_id = any (family)
    on conflict do nothing;
    delete from accounts.identity i where i.account_id = any (family);
end $$;
