-- What a statement on one row costs is mostly not the row: every CHECK, and every trigger's WHEN,
-- is read from its text, planned and thrown away again by each statement that writes. So the guards
-- hold their matrix in a function (transitions.sql), the checks call no function of ours, and where
-- several stood on a busy table one stands.

drop function transitions.refuse_move() cascade;    -- with the triggers; the installer makes them

do $$
declare
    c record;
begin
    for c in
        select x.conrelid::regclass as entity, x.conname, pg_get_constraintdef(x.oid) as said
        from pg_catalog.pg_constraint x
        where x.contype = 'c' and x.conrelid <> 0
          and pg_get_constraintdef(x.oid) like '%kernel.bucket_of(%'
    loop
        execute format('alter table %s drop constraint %I, add constraint %2$I %s', c.entity,
            c.conname, regexp_replace(c.said, 'kernel\.bucket_of\((\w+)\)',
                                      'get_byte(uuid_send(\1), 15)', 'g'));
    end loop;
end $$;

alter table ledger.wallet
    drop constraint wallet_held_check, drop constraint wallet_floor_check,
    drop constraint never_below_floor, drop constraint wallet_check,
    add constraint never_below_floor check (
        balance - held >= floor and held >= 0
        and floor = 0                                   -- no verb gives credit yet
        and bucket = get_byte(uuid_send(account_id), 15));

alter table ledger.lot
    drop constraint lot_kind_check, drop constraint lot_amount_check, drop constraint lot_check,
    drop constraint lot_check1, drop constraint lot_check2, drop constraint lot_check3,
    drop constraint open_while_anything_remains,
    add constraint whole check (
        open = (remaining > 0) and held between 0 and remaining and remaining <= amount
        and amount > 0 and kind in ('bought', 'promotional', 'welcome')
        and bucket = get_byte(uuid_send(id), 15) and bucket = get_byte(uuid_send(account_id), 15));

alter table outbox.effect
    drop constraint effect_check, drop constraint effect_check1,
    add constraint at_home check (
        bucket = get_byte(uuid_send(stream), 15) and bucket = get_byte(uuid_send(id), 15));

alter table queue.job
    drop constraint job_check, drop constraint job_check1, drop constraint job_price_check,
    drop constraint a_refund_has_its_charge, drop constraint delivered_is_not_refunded,
    add constraint paid_or_refunded check (
        (refund_seq is null or (charge_seq is not null and status <> 'completed'))
        and price >= 0
        and bucket = get_byte(uuid_send(id), 15) and bucket = get_byte(uuid_send(account_id), 15));

alter table orders.order
    drop constraint order_check, drop constraint order_check1, drop constraint order_title_check,
    drop constraint order_details_check, drop constraint order_priority_check,
    drop constraint held_while_processing, drop constraint assigned_at_a_time,
    add constraint held_while_processing check (
        (status = 'PROCESSING') = (lease_until is not null)
        and (status <> 'PENDING' or assigned_operator_id is null)
        and (status <> 'PROCESSING' or assigned_operator_id is not null)
        and (assigned_operator_id is null) = (assigned_at is null)
        and length(title) between 1 and 200 and coalesce(length(details), 0) <= 10000
        and priority between 0 and 9
        and bucket = get_byte(uuid_send(id), 15) and bucket = get_byte(uuid_send(desk_id), 15));

-- The trigger's condition stands in its function for the same reason.
create or replace function orders.mark_changed() returns trigger
language plpgsql as $$
begin
    if (old.version, old.status, old.breached_at, old.title, old.assigned_operator_id)
       is distinct from
       (new.version, new.status, new.breached_at, new.title, new.assigned_operator_id) then
        new.changed_in := pg_current_xact_id()::text::bigint;
    end if;
    return new;
end $$;
drop trigger mark_changed on orders.order;
create trigger mark_changed before update on orders.order
    for each row execute function orders.mark_changed();
