-- Signing in makes what a new account needs for all newcomers of a batch at once, before the
-- accounts themselves. The triggers are for whoever inserts an account by other means: they make
-- what is missing, and find it there where the verb has been.

create or replace function accounts.welcome() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from ledger.wallet w where w.bucket = new.bucket
               and w.account_id = new.id and w.asset = 'crystal') then
        return null;
    end if;
    insert into ledger.wallet (bucket, account_id, asset) values (new.bucket, new.id, 'crystal');
    insert into outbox.stream (bucket, stream) values (new.bucket, new.id);
    if new.welcome_due then
        begin
            perform accounts._pay_welcome_bonus(new.id, kernel.now());
        exception when others then
            raise warning 'welcome bonus of account % not paid: % (%)', new.id, sqlerrm, sqlstate;
        end;
    end if;
    return null;
end $$;

create or replace function outbox.follow_account() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    zone   text;
    before text;
begin
    select r.time_zone into before from outbox.reader r
    where r.bucket = new.bucket and r.account_id = new.id;
    if tg_op = 'INSERT' and found then
        return null;
    end if;
    zone := case new.time_zone when 'UTC' then 'UTC' else outbox._zone_or_utc(new.time_zone) end;
    insert into outbox.reader as r (bucket, account_id, person, locale, time_zone, quiet_from,
                                    quiet_until)
    values (new.bucket, new.id, coalesce(new.alias_of, new.id), new.locale, zone,
            outbox._quiet_time(new.quiet_hours, 'from'),
            outbox._quiet_time(new.quiet_hours, 'until'))
    on conflict (bucket, account_id) do update
    set person = excluded.person, locale = excluded.locale, time_zone = excluded.time_zone,
        quiet_from = excluded.quiet_from, quiet_until = excluded.quiet_until;
    if before <> zone then
        perform from outbox.stream s where s.bucket = new.bucket and s.stream = new.id for update;
        update outbox.timer t set due_at = t.local_at at time zone zone
        where t.bucket = new.bucket and t.stream = new.id and t.local_at is not null;
    end if;
    if new.status = 'ERASED' then
        perform outbox._forget_person(new.id);
    end if;
    return null;
end $$;
