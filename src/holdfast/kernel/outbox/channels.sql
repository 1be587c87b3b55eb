-- Channels: where effects go after their own stream. Browsers (Web Push) and webhooks are streams
-- of their own, so one that is down holds up nobody else and keeps its order.
--
-- The copy is made in the transaction that settles the effect in its own stream: exactly once,
-- whatever dies in between. Copies are wrapped: {stream, seq, at, data} of the effect they copy.

-- Says that people are told of a topic. `blocks` null: as its channel does.
create function outbox.declare_kind(
    topic text, quiet boolean, ttl_seconds int, urgency text, blocks boolean default null)
returns void language sql as $$
    insert into outbox.kind (topic, quiet, ttl_seconds, urgency, blocks)
    values (topic, quiet, ttl_seconds, urgency, blocks)
    on conflict on constraint kind_pkey do update
    set quiet = excluded.quiet, ttl_seconds = excluded.ttl_seconds, urgency = excluded.urgency,
        blocks = excluded.blocks
$$;

-- Every topic that people are told of.
create function outbox.kinds()
returns setof outbox.kind language sql stable as $$
    select k.* from outbox.kind k order by k.topic
$$;

-- The streams to which something of these may be copied: all webhooks, and the browsers of
-- whoever reads the streams now. Nothing is copied before its effect was delivered.
create function outbox._destinations(streams uuid[], outcomes text[])
returns uuid[] language plpgsql stable as $$
#variable_conflict use_variable
declare
    towards uuid[];
begin
    if not 'delivered' = any (outcomes) then
        return '{}';
    end if;
    select array_agg(x.id) into towards from (
        select w.id from outbox.webhook w
        union all
        select distinct b.id
        from unnest(streams) u
        join outbox.reader r on r.bucket = kernel.bucket_of(u) and r.account_id = u
        join outbox.reader f on f.person = r.person
        join outbox.subscription b on b.bucket = f.bucket and b.account_id = f.account_id) x;
    return coalesce(towards, '{}');
end $$;

-- Copies what is being settled in `s`, up to `upto`, to those of `towards` (locked) that want it.
create function outbox._fan_out(s outbox.stream, upto bigint, towards uuid[], at timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    c record;
begin
    with wanted as (
        select e.*, d.id as destination
        from outbox.effect e
        cross join lateral (
            select w.id from outbox.webhook w
            where w.id = any (towards) and outbox._matches(w.topics, e.topic)
            union all
            select b.id
            from outbox.reader r
            join outbox.reader f on f.person = r.person
            join outbox.subscription b on b.bucket = f.bucket and b.account_id = f.account_id
            where r.bucket = s.bucket and r.account_id = s.stream and b.id = any (towards)
              and exists (select from outbox.kind k where k.topic = e.topic)) d
        where e.bucket = s.bucket and e.stream = s.stream and e.status = 'READY'
          and e.seq > s.done_seq and e.seq <= upto)
    select array_agg(w.destination order by w.seq) as streams,
           array_agg(kernel.new_id(kernel.bucket_of(w.destination)) order by w.seq) as ids,
           array_agg(w.topic order by w.seq) as topics,
           array_agg(jsonb_build_object('stream', w.stream, 'seq', w.seq, 'at', w.at,
                                        'data', w.payload) order by w.seq) as payloads,
           array_agg(w.request_id order by w.seq) as requests,
           array_agg(w.valid_while order by w.seq) as valid_whiles,
           array_agg(w.id order by w.seq) as sources
    into c from wanted w;
    if c.streams is not null then
        perform outbox._append(c.streams, c.ids, c.topics, c.payloads, c.requests, at,
                               c.valid_whiles, c.sources);
    end if;
end $$;

-- A webhook's topics are whole names, `courses.*`, or `*`.
create function outbox._matches(topics text[], topic text)
returns boolean language sql immutable parallel safe
return topics && array['*', split_part(topic, '.', 1) || '.*', topic];

-- Ends a stream whose receiver is gone: what waits in it is called off.
create function outbox._close(stream uuid)
returns void language plpgsql as $$
#variable_conflict use_variable
declare
    moment timestamptz;
begin
    perform from outbox.stream s
    where s.bucket = kernel.bucket_of(stream) and s.stream = stream for update;
    moment := kernel.now();
    update outbox.effect e
    set status = case e.status when 'READY' then 'CANCELLED' else 'SKIPPED' end,
        finished_at = moment, error = coalesce(e.error, 'the receiver was removed')
    from outbox.stream s
    where s.bucket = kernel.bucket_of(stream) and s.stream = stream
      and e.bucket = s.bucket and e.stream = s.stream and e.seq > s.done_seq;
    update outbox.stream s
    set done_seq = outbox._last(s), ready_at = null, token = null, attempts = 0, blocked = false
    where s.bucket = kernel.bucket_of(stream) and s.stream = stream;
end $$;

-- Registers a browser for notifications; the same endpoint again keeps its id and takes the new
-- keys. Of more than twenty the oldest goes.
create function outbox.subscribe(account uuid, endpoint text, p256dh text, auth text)
returns table (id uuid, created boolean, created_at timestamptz) language plpgsql as $$
#variable_conflict use_column
declare
    home   smallint := kernel.bucket_of(account);
    moment timestamptz;
    known  outbox.subscription;
    old    uuid;
begin
    perform from outbox.reader r where r.bucket = home and r.account_id = account for update;
    moment := kernel.now();
    update outbox.subscription b set p256dh = subscribe.p256dh, auth = subscribe.auth
    where b.bucket = home and b.account_id = account
      and sha256(b.endpoint::bytea) = sha256(subscribe.endpoint::bytea)
    returning b.* into known;
    if known.id is null then
        for old in select b.id from outbox.subscription b
                   where b.bucket = home and b.account_id = account
                   order by b.created_at desc offset 19
        loop
            perform outbox._drop_subscription(old);
        end loop;
        known.id := kernel.new_id(home);
        known.created_at := moment;
        insert into outbox.stream (bucket, stream, channel) values (home, known.id, 'push');
        insert into outbox.subscription (bucket, id, account_id, endpoint, p256dh, auth, created_at)
        values (home, known.id, account, endpoint, p256dh, auth, moment);
        return query select known.id, true, moment;
    else
        return query select known.id, false, known.created_at;
    end if;
end $$;

create function outbox._drop_subscription(subscription uuid)
returns void language plpgsql as $$
begin
    perform outbox._close(subscription);
    delete from outbox.subscription b
    where b.bucket = kernel.bucket_of(subscription) and b.id = subscription;
end $$;

-- The browsers of these accounts, newest first.
create function outbox.subscriptions(owners uuid[])
returns table (id uuid, endpoint text, created_at timestamptz)
language sql stable as $$
    select b.id, b.endpoint, b.created_at
    from unnest(owners) u
    join outbox.subscription b on b.bucket = kernel.bucket_of(u) and b.account_id = u
    order by b.id desc
$$;

-- Removes a browser (owners null: the push service said that it is gone). Outcomes: ok, not_found.
create function outbox.unsubscribe(subscription uuid, owners uuid[])
returns text language plpgsql as $$
begin
    if not exists (
        select from outbox.subscription b
        where b.bucket = kernel.bucket_of(subscription) and b.id = subscription
          and (owners is null or b.account_id = any (owners)))
    then
        return 'not_found';
    end if;
    perform outbox._drop_subscription(subscription);
    return 'ok';
end $$;

-- An erased person is told nothing more.
create function outbox._forget_person(account uuid)
returns void language plpgsql as $$
declare
    old uuid;
begin
    for old in select b.id from outbox.subscription b
               where b.bucket = kernel.bucket_of(account) and b.account_id = account
    loop
        perform outbox._drop_subscription(old);
    end loop;
    perform from outbox.stream s
    where s.bucket = kernel.bucket_of(account) and s.stream = account for update;
    delete from outbox.timer t
    where t.bucket = kernel.bucket_of(account) and t.stream = account;
end $$;

-- Registers a webhook; audited.
create function outbox.add_webhook(
    account uuid, url text, topics text[], secret text, request text default null)
returns table (id uuid, created_at timestamptz) language plpgsql as $$
#variable_conflict use_column
declare
    home   smallint := kernel.bucket_of(account);
    fresh  uuid := kernel.new_id(kernel.bucket_of(account));
    moment timestamptz := kernel.now();
begin
    insert into outbox.stream (bucket, stream, channel) values (home, fresh, 'webhook');
    insert into outbox.webhook (bucket, id, account_id, url, topics, secret, created_at)
    values (home, fresh, account, url, topics, secret, moment);
    perform audit._record('webhook', 'webhooks.add', array[kernel.new_id(home)], array[fresh],
        array[null::text], array[null::text], array[account::text], array[null::text],
        array[request], moment);
    return query select fresh, moment;
end $$;

-- The webhooks, newest first, without their secrets; how many effects wait, and whether a dead
-- letter blocks them.
create function outbox.webhooks(before uuid default null, at_most int default 50)
returns table (id uuid, url text, topics text[], created_at timestamptz, waiting bigint,
               blocked boolean)
language sql stable as $$
    select w.id, w.url, w.topics, w.created_at, outbox._last(s) - s.done_seq, s.blocked
    from outbox.webhook w
    join outbox.stream s on s.bucket = w.bucket and s.stream = w.id
    where w.id < coalesce(webhooks.before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by w.id desc
    limit at_most
$$;

-- Removes a webhook; what waits for it is called off. Outcomes: ok, not_found.
create function outbox.remove_webhook(webhook uuid, actor text, request text default null)
returns text language plpgsql as $$
declare
    home smallint := kernel.bucket_of(webhook);
begin
    if not exists (select from outbox.webhook w where w.bucket = home and w.id = webhook) then
        return 'not_found';
    end if;
    perform outbox._close(webhook);
    delete from outbox.webhook w where w.bucket = home and w.id = webhook;
    perform audit._record('webhook', 'webhooks.remove', array[kernel.new_id(home)],
        array[webhook], array[null::text], array[null::text], array[actor], array[null::text],
        array[request], kernel.now());
    return 'ok';
end $$;

-- Where a webhook's stream goes, and what signs it. No row: it was removed.
create function outbox.webhook_address(stream uuid)
returns table (url text, secret text) language sql stable as $$
    select w.url, w.secret from outbox.webhook w
    where w.bucket = kernel.bucket_of(webhook_address.stream) and w.id = webhook_address.stream
$$;

-- Where a browser's stream goes, in which language, and for how many seconds its person is not to
-- be disturbed by this topic. No row: it was removed.
create function outbox.push_address(stream uuid, topic text)
returns table (endpoint text, p256dh text, auth text, locale text, ttl_seconds int, urgency text,
               quiet_seconds double precision)
language plpgsql stable as $$
#variable_conflict use_column
begin
    return query
    select b.endpoint, b.p256dh, b.auth, p.locale, k.ttl_seconds, k.urgency,
           case when k.quiet then outbox._quiet_for(p.time_zone, p.quiet_from, p.quiet_until,
                                                    kernel.now()) else 0 end
    from outbox.subscription b
    join outbox.reader r on r.bucket = b.bucket and r.account_id = b.account_id
    join outbox.reader p on p.bucket = kernel.bucket_of(r.person) and p.account_id = r.person
    join outbox.kind k on k.topic = push_address.topic
    where b.bucket = kernel.bucket_of(push_address.stream) and b.id = push_address.stream;
end $$;

-- Seconds until quiet hours end; 0 outside of them. They may go over midnight.
create function outbox._quiet_for(zone text, since time, until time, at timestamptz)
returns double precision language plpgsql stable as $$
declare
    here timestamp := at at time zone zone;
    ends timestamp;
begin
    if since is null or since = until
       or (since < until and (here::time < since or here::time >= until))
       or (since > until and here::time < since and here::time >= until)
    then
        return 0;
    end if;
    ends := here::date + until;
    if ends <= here then
        ends := ends + interval '1 day';
    end if;
    return greatest(1, extract(epoch from (ends at time zone zone) - at));
end $$;

-- The name of a time zone, or UTC for what is none.
create function outbox._zone_or_utc(named text) returns text
language plpgsql stable as $$
begin
    perform kernel.now() at time zone named;
    return named;
exception when invalid_parameter_value then
    return 'UTC';
end $$;

-- Quiet hours that cannot be read are none: they are checked at the door, and a notification too
-- many is better than a sign-up that fails.
create function outbox._quiet_time(hours jsonb, side text) returns time
language plpgsql stable as $$
begin
    if hours ->> 'from' is null or hours ->> 'until' is null then
        return null;
    end if;
    perform (hours ->> 'from')::time, (hours ->> 'until')::time;
    return (hours ->> side)::time;
exception when data_exception then
    return null;
end $$;

-- The clock of whoever reads a stream: his time zone.
create function outbox._zone_of(account uuid) returns text
language plpgsql stable as $$
declare
    zone text;
begin
    select p.time_zone into strict zone
    from outbox.reader r
    join outbox.reader p on p.bucket = kernel.bucket_of(r.person) and p.account_id = r.person
    where r.bucket = kernel.bucket_of(account) and r.account_id = account;
    return zone;
end $$;
