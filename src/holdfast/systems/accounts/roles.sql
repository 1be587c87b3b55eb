-- Roles are kept here; no token's claim raises one.

create function accounts._set_role(account uuid, new_role text, actor text, request text)
returns text language plpgsql as $$
declare
    before accounts.account;
begin
    select * into before from accounts.account a
    where a.bucket = kernel.bucket_of(account) and a.id = account and a.status = 'ACTIVE'
    for update;
    if before.id is null then
        return 'not_found';
    elsif before.role <> new_role then
        update accounts.account a set role = new_role, version = a.version + 1
        where a.bucket = before.bucket and a.id = account;
        insert into audit.event (bucket, entity_id, id, entity, action, actor, old_value,
                                 new_value, request_id, at)
        values (before.bucket, account, kernel.new_id(before.bucket), 'account',
                'accounts.set_role', actor, before.role, new_role, request, kernel.now());
    end if;
    return 'ok';
end $$;

-- An admin gives a role. Whether he is one is looked up here, at this moment, not believed.
create function accounts.change_role(account uuid, new_role text, admin uuid, request text)
returns text language plpgsql as $$
begin
    perform 1 from accounts.account a
    where a.bucket = kernel.bucket_of(admin) and a.id = admin and a.role = 'admin'
      and a.status = 'ACTIVE';
    if not found then
        return 'forbidden';
    end if;
    return accounts._set_role(account, new_role, admin::text, request);
end $$;
