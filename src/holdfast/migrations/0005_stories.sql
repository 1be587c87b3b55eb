-- Stories keep nothing of their own beside the job: what a story costs is a row of ledger.price.

create schema stories;

-- HOLDFAST_STORY_PRICE arrives as a setting at migrate; a changed one becomes the next version of
-- the price. Jobs already paid keep what they paid.
create function stories.price_from_setting() returns trigger
language plpgsql as $$
begin
    insert into ledger.price (kind, version, amount, per, unit, since)
    select 'story', coalesce(max(p.version), 0) + 1, new.value::bigint, 500, 'words', kernel.now()
    from ledger.price p where p.kind = 'story';
    return null;
end $$;

create trigger price_created after insert on kernel.setting
    for each row when (new.name = 'story_price') execute function stories.price_from_setting();
create trigger price_changed after update on kernel.setting
    for each row when (new.name = 'story_price' and new.value is distinct from old.value)
    execute function stories.price_from_setting();

insert into kernel.setting (name, value) values ('story_price', '50');
