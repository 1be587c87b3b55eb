-- Dead letters: what could not be delivered stops its stream, so that order holds, until an admin
-- sends it again or passes it by.

-- An admin's decision about a dead letter: send it again (redrive), or pass it by (skip). Outcomes:
-- ok; not_found; effect_not_dead (with the status it has).
create function outbox.decide(effect_id uuid, action text, actor text, request_id text)
returns table (code text, status text) language plpgsql as $$
#variable_conflict use_variable
declare
    home   smallint := kernel.bucket_of(effect_id);
    into_  text := case action when 'redrive' then 'READY' when 'skip' then 'SKIPPED' end;
    e      outbox.effect;
    moment timestamptz;
begin
    if into_ is null then
        raise exception 'no decision is called "%"', action using errcode = 'KH006';
    end if;
    select * into e from outbox.effect x
    where x.bucket = home and x.id = effect_id and x.status = 'DEAD';
    if e.id is null then
        select * into e from outbox.effect x where x.bucket = home and x.id = effect_id;
        return query select case when e.id is null then 'not_found' else 'effect_not_dead' end,
                            e.status;
        return;
    end if;
    perform from outbox.stream s where s.bucket = home and s.stream = e.stream for update;
    moment := kernel.now();
    update outbox.effect x
    set status = into_, error = case action when 'redrive' then null else x.error end,
        finished_at = case action when 'redrive' then null else moment end
    where x.bucket = home and x.stream = e.stream and x.seq = e.seq and x.status = 'DEAD';
    if not found then       -- somebody else decided while we waited
        return query select 'effect_not_dead', x.status from outbox.effect x
        where x.bucket = home and x.stream = e.stream and x.seq = e.seq;
        return;
    end if;
    update outbox.stream s
    set done_seq = case action when 'redrive' then s.done_seq else e.seq end, attempts = 0,
        blocked = false,
        ready_at = case when action = 'redrive' or e.seq < outbox._last(s) then moment end
    where s.bucket = home and s.stream = e.stream;
    perform audit._record('effect', 'effects.' || action, array[kernel.new_id(home)],
        array[e.id], array['DEAD'], array[into_], array[actor], array[null::text],
        array[request_id], moment);
    return query select 'ok', into_;
end $$;

-- The dead letters, newest first, from below `before` on. `behind` is how many effects wait for
-- the decision.
create function outbox.dead_letters(before uuid default null, at_most int default 50)
returns table (id uuid, stream uuid, seq bigint, channel text, topic text, source uuid,
               attempts int, error text, at timestamptz, finished_at timestamptz, behind bigint)
language sql stable as $$
    select e.id, e.stream, e.seq, s.channel, e.topic, coalesce(e.source, e.id), e.attempts,
           e.error, e.at, e.finished_at, outbox._last(s) - e.seq
    from outbox.effect e
    join outbox.stream s on s.bucket = e.bucket and s.stream = e.stream
    where e.status = 'DEAD' and e.id < coalesce(dead_letters.before,
                                                'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by e.id desc
    limit at_most
$$;
