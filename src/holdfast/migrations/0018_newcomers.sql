-- What an inserted account lacks is made once a statement, not once a row: the sign-in verb inserts
-- many accounts together, and by then they lack nothing.

drop trigger welcome on accounts.account;
create or replace function accounts.welcome() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    newcomer record;
begin
    for newcomer in
        select n.*, w.poor from newcomers n
        cross join lateral (
            select (select x.account_id from ledger.wallet x where x.bucket = n.bucket
                    and x.account_id = n.id and x.asset = 'crystal') is null as poor) w
        where w.poor or (select r.account_id from outbox.reader r
                         where r.bucket = n.bucket and r.account_id = n.id) is null
    loop
        insert into outbox.reader (bucket, account_id, person, locale, time_zone, quiet_from,
                                   quiet_until)
        values (newcomer.bucket, newcomer.id, coalesce(newcomer.alias_of, newcomer.id),
                newcomer.locale, outbox._zone_or_utc(newcomer.time_zone),
                outbox._quiet_time(newcomer.quiet_hours, 'from'),
                outbox._quiet_time(newcomer.quiet_hours, 'until'))
        on conflict (bucket, account_id) do nothing;
        insert into outbox.stream (bucket, stream) values (newcomer.bucket, newcomer.id)
        on conflict (bucket, stream) do nothing;
        insert into ledger.wallet (bucket, account_id, asset)
        values (newcomer.bucket, newcomer.id, 'crystal')
        on conflict (bucket, account_id, asset) do nothing;
        if newcomer.poor and newcomer.welcome_due then
            begin
                perform accounts._pay_welcome_bonus(newcomer.id, kernel.now());
            exception when others then
                raise warning 'welcome bonus of account % not paid: % (%)', newcomer.id, sqlerrm,
                    sqlstate;
            end;
        end if;
    end loop;
    return null;
end $$;
select kernel.plan_by_index('accounts.welcome');
create trigger welcome after insert on accounts.account referencing new table as newcomers
    for each statement execute function accounts.welcome();

drop trigger follow_account on accounts.account;
create or replace function outbox.follow_account() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    zone   text := case new.time_zone when 'UTC' then 'UTC'
                   else outbox._zone_or_utc(new.time_zone) end;
    before text;
begin
    select r.time_zone into before from outbox.reader r
    where r.bucket = new.bucket and r.account_id = new.id;
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
create trigger follow_account
    after update of status, locale, time_zone, quiet_hours, alias_of on accounts.account
    for each row execute function outbox.follow_account();

-- The longest checks of all call one function each, too. (Not those of accounts: any program may
-- insert one, and would need the right to call it.)
create function ledger._signs_agree(
    kind text, amount bigint, held_change bigint, reverses bigint)
returns boolean language plpgsql immutable as $$
begin
    return case kind
        when 'charge' then amount < 0 and held_change = 0
        when 'grant' then amount > 0 and held_change = 0
        when 'refund' then amount > 0 and held_change = 0 and reverses is not null
        when 'hold' then amount = 0 and held_change > 0
        when 'release' then amount = 0 and held_change < 0
        when 'capture' then amount < 0 and held_change = amount
        when 'expiry' then amount < 0 and held_change = 0
        when 'adjustment' then amount <> 0 and held_change = 0
        when 'transfer' then amount <> 0 and held_change = 0
        else false end;
end $$;
alter table ledger.entry
    drop constraint signs,
    add constraint signs check (ledger._signs_agree(kind, amount, held_change, reverses));

create function ledger._lot_is_whole(
    open boolean, amount bigint, remaining bigint, held bigint, kind text, bucket smallint,
    id uuid, account_id uuid)
returns boolean language plpgsql immutable as $$
begin
    return open = (remaining > 0) and held between 0 and remaining and remaining <= amount
        and amount > 0 and kind in ('bought', 'promotional', 'welcome')
        and bucket = get_byte(uuid_send(id), 15) and bucket = get_byte(uuid_send(account_id), 15);
end $$;
alter table ledger.lot
    drop constraint whole,
    add constraint whole check (
        ledger._lot_is_whole(open, amount, remaining, held, kind, bucket, id, account_id));
