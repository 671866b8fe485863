//! What readers ask, from Redis alone: in a process that folds nothing it is all there is.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use futures_util::future::{join_all, try_join_all};

use super::head::Head;
use super::keys::Keys;
use crate::clock::Micros;
use crate::feature::state::{self, Product};
use crate::feature::{Answered, Found, Read, Scope};
use crate::journey::{self, Answer, Dump, Entry};
use crate::redis_link::Link;

/// SKUs that are listed at once.
const LISTED: usize = 1000;

/// Keys to be read, each once, however often it is asked for.
#[derive(Default)]
struct Wants {
    keys: Vec<String>,
    places: HashMap<String, usize>,
}

impl Wants {
    fn place(&mut self, key: String) -> usize {
        *self.places.entry(key).or_insert_with_key(|key| {
            self.keys.push(key.clone());
            self.keys.len() - 1
        })
    }
}

/// Where the answer to one read is.
struct Asked {
    head: usize,
    view: usize,
    past: Vec<usize>,
}

/// One round trip: what is read of a partition is read at one instant, with how fresh it is.
pub(super) async fn get_many(link: &Link, keys: &Keys, reads: &[Read], scope: &Scope, now: Micros) -> anyhow::Result<Vec<Found>> {
    let mut wants = Wants::default();
    let ask = |read: &Read| {
        let (sku, partition) = (read.sku.as_str(), keys.partition(&read.sku));
        let head = wants.place(keys.head(partition));
        let view = wants.place(keys.view(partition, sku));
        let past = read.wanted.histories.iter().map(|wanted| wants.place(keys.past(partition, sku, &wanted.market)));
        Asked { head, view, past: past.collect() }
    };
    let asked: Vec<Asked> = reads.iter().map(ask).collect();
    let values = link.get_many(&wants.keys).await?;
    let answer = |(read, asked): (&Read, Asked)| {
        let Head::At { as_of, .. } = Head::of(values[asked.head].as_deref())? else {
            return Ok(Found { product: None, as_of: None });
        };
        let Some(view) = &values[asked.view] else { return Ok(Found { product: None, as_of }) };
        let mut product = Product::of_view(view).with_context(|| format!("the product {} cannot be read", read.sku))?;
        for (wanted, past) in read.wanted.histories.iter().zip(asked.past) {
            if let Some(past) = &values[past] {
                product.add_past(&wanted.market, past)?;
            }
        }
        Ok(Found { product: product.answer(read, scope, now), as_of })
    };
    reads.iter().zip(asked).map(answer).collect()
}

/// Answers of a journey product, read at one instant of its home partition.
pub(super) async fn journeys(
    link: &Link,
    keys: &Keys,
    partitions: u16,
    product: &str,
    entries: &[Entry],
) -> anyhow::Result<Answered> {
    let home = keys.partition(product);
    let mut wanted: Vec<String> = (0..partitions).map(|partition| keys.head(partition)).collect();
    wanted.extend(entries.iter().map(|entry| keys.journey(home, &format!("{product}:{}", entry.name()))));
    let mut values = link.get_many(&wanted).await?;
    let answers = values.split_off(usize::from(partitions));
    let as_of = |head: &Option<Vec<u8>>| Ok(if let Head::At { as_of, .. } = Head::of(head.as_deref())? { as_of } else { None });
    let as_of = values.iter().map(as_of).collect::<anyhow::Result<Vec<_>>>()?.into_iter().min().flatten();
    let read = |value: &Option<Vec<u8>>| value.as_deref().map(Answer::read).transpose();
    let answers = answers.iter().map(read).collect::<anyhow::Result<_>>();
    Ok(Answered { answers: answers.with_context(|| format!("an answer of {product} cannot be read"))?, as_of })
}

/// How each partition stands.
pub(super) async fn heads(link: &Link, keys: &Keys, partitions: u16) -> anyhow::Result<Vec<Head>> {
    let heads: Vec<String> = (0..partitions).map(|partition| keys.head(partition)).collect();
    link.get_many(&heads).await?.iter().map(|head| Head::of(head.as_deref())).collect()
}

/// The first `limit` SKUs that stand under `key` behind `after`.
pub(super) async fn listed(link: &Link, key: &str, after: Option<&str>, limit: usize) -> anyhow::Result<Vec<Arc<str>>> {
    let skus: Vec<String> = link.query(&range(key, after, limit)).await?;
    Ok(skus.into_iter().map(Arc::from).collect())
}

fn range(key: &str, after: Option<&str>, limit: usize) -> redis::Cmd {
    let mut command = redis::cmd("ZRANGEBYLEX");
    let from = after.map_or_else(|| "-".into(), |after| format!("({after}"));
    command.arg(key).arg(from).arg("+").arg("LIMIT").arg(0).arg(limit);
    command
}

/// The first `limit` SKUs of `scope` behind `after`, ascending.
pub(super) async fn scan(
    link: &Link,
    keys: &Keys,
    partitions: u16,
    after: Option<&str>,
    limit: usize,
    scope: &Scope,
) -> anyhow::Result<Vec<Arc<str>>> {
    let each = (0..partitions).map(|partition| Scan { link, keys, partition, scope }.first(after, limit));
    let mut skus: Vec<Arc<str>> = try_join_all(each).await?.into_iter().flatten().collect();
    skus.sort_unstable();
    skus.truncate(limit);
    Ok(skus)
}

/// Through one partition.
struct Scan<'a> {
    link: &'a Link,
    keys: &'a Keys,
    partition: u16,
    scope: &'a Scope,
}

impl Scan<'_> {
    async fn first(self, after: Option<&str>, limit: usize) -> anyhow::Result<Vec<Arc<str>>> {
        let lists = self.narrowest().await?;
        let mut found: Vec<Arc<str>> = Vec::new();
        let mut behind: Option<Arc<str>> = after.map(Arc::from);
        while found.len() < limit {
            let (candidates, more) = self.candidates(&lists, behind.as_deref(), limit).await?;
            behind = candidates.last().cloned();
            found.extend(self.in_scope(candidates).await?);
            if !more {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    /// The lists of the column with the fewest products, of those that the scope looks at; that of all where it looks at none.
    async fn narrowest(&self) -> anyhow::Result<Vec<String>> {
        let list = |(column, values): (_, &std::collections::BTreeSet<String>)| -> Vec<String> {
            values.iter().map(|value| self.keys.column(self.partition, column, value)).collect()
        };
        let mut columns: Vec<Vec<String>> = self.scope.of_details().map(list).collect();
        if columns.len() < 2 {
            return Ok(columns.pop().unwrap_or_else(|| vec![self.keys.all(self.partition)]));
        }
        let mut pipe = redis::pipe();
        for key in columns.iter().flatten() {
            pipe.cmd("ZCARD").arg(key);
        }
        let sizes: Vec<usize> = self.link.pipe(&pipe).await?;
        let mut sizes = sizes.into_iter();
        let sized = columns.into_iter().map(|lists| (sizes.by_ref().take(lists.len()).sum::<usize>(), lists));
        let narrowest = sized.collect::<Vec<_>>().into_iter().min_by_key(|(size, _)| *size);
        Ok(narrowest.map(|(_, lists)| lists).unwrap_or_default())
    }

    /// What comes first in `lists` behind `after`, ascending, and whether there may be more behind it.
    async fn candidates(&self, lists: &[String], after: Option<&str>, limit: usize) -> anyhow::Result<(Vec<Arc<str>>, bool)> {
        let each = limit.clamp(1, LISTED);
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(self.keys.head(self.partition));
        for list in lists {
            pipe.add_command(range(list, after, each));
        }
        let mut answered = self.link.pipe::<Vec<redis::Value>>(&pipe).await?.into_iter();
        // Lists that are empty because Redis lost them are no answer.
        let head: Option<Vec<u8>> = redis::from_redis_value(answered.next().unwrap_or(redis::Value::Nil))?;
        Head::of(head.as_deref())?.as_of(self.partition)?;
        let listed: Vec<Vec<String>> = answered.map(redis::from_redis_value).collect::<Result<_, _>>()?;
        // A list that goes on hides what is behind its last one.
        let end = listed.iter().filter(|skus| skus.len() == each).filter_map(|skus| skus.last()).min().cloned();
        let mut candidates: Vec<Arc<str>> = listed.into_iter().flatten().map(Arc::from).collect();
        if let Some(end) = &end {
            candidates.retain(|sku| **sku <= **end);
        }
        candidates.sort_unstable();
        candidates.dedup();
        Ok((candidates, end.is_some()))
    }

    /// By their views: a list may be a moment older, and knows one column.
    async fn in_scope(&self, candidates: Vec<Arc<str>>) -> anyhow::Result<Vec<Arc<str>>> {
        let mut wanted: Vec<String> = candidates.iter().map(|sku| self.keys.view(self.partition, sku)).collect();
        wanted.push(self.keys.head(self.partition));
        let mut values = self.link.get_many(&wanted).await?;
        Head::of(values.pop().flatten().as_deref())?.as_of(self.partition)?;
        let mut found = Vec::new();
        for (sku, view) in candidates.into_iter().zip(values) {
            if let Some(view) = view
                && Product::of_view(&view).with_context(|| format!("the product {sku} cannot be read"))?.is_in(self.scope)
            {
                found.push(sku);
            }
        }
        Ok(found)
    }
}

/// The canonical dump. While events come, each SKU is as it was when it was read.
pub(super) async fn dump(
    link: &Link,
    keys: &Keys,
    partitions: u16,
    sold: &[Arc<journey::product::Product>],
) -> anyhow::Result<String> {
    let mut products: Vec<(Arc<str>, Product)> = Vec::new();
    for partition in join_all((0..partitions).map(|partition| all(link, keys, partition))).await {
        products.extend(partition?);
    }
    products.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let mut journeys = Dump::default();
    for product in sold {
        let home = keys.partition(&product.name);
        let mut after: Option<Arc<str>> = None;
        loop {
            let names = listed(link, &keys.journeys(home), after.as_deref(), LISTED).await?;
            let Some(last) = names.last() else { break };
            after = Some(last.clone());
            let of_product = names.iter().filter_map(|name| name.strip_prefix(&*product.name)?.strip_prefix(':'));
            let entries: Vec<Entry> = of_product.filter_map(Entry::of_name).collect();
            let Answered { answers, .. } = self::journeys(link, keys, partitions, &product.name, &entries).await?;
            for (entry, answer) in entries.iter().zip(answers) {
                answer.iter().for_each(|answer| journeys.add(product, entry, answer));
            }
        }
    }
    Ok(state::dump(products.iter().map(|(sku, product)| (sku, product)))? + &journeys.lines()?)
}

async fn all(link: &Link, keys: &Keys, partition: u16) -> anyhow::Result<Vec<(Arc<str>, Product)>> {
    let mut products = Vec::new();
    let mut after: Option<Arc<str>> = None;
    loop {
        let skus = listed(link, &keys.all(partition), after.as_deref(), LISTED).await?;
        let mut wanted: Vec<String> = skus.iter().map(|sku| keys.view(partition, sku)).collect();
        wanted.push(keys.head(partition));
        let mut values = link.get_many(&wanted).await?;
        if let Head::Restoring(_) = Head::of(values.pop().flatten().as_deref())? {
            anyhow::bail!("partition {partition} of the feature store is being written anew");
        }
        let Some(last) = skus.last() else { return Ok(products) };
        after = Some(last.clone());
        for (sku, view) in skus.into_iter().zip(values) {
            if let Some(view) = view {
                let product = Product::of_view(&view).with_context(|| format!("the product {sku} cannot be read"))?;
                products.push((sku, product));
            }
        }
    }
}
