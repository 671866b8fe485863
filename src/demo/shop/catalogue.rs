//! What the shop sells: products put together from word lists, and how much each is wanted.
//!
//! Popularity follows Zipf's law, as in real shops: a few best sellers, a long tail. Weights are integers, so that the
//! draw is the same on every machine.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::words::{CATEGORIES, Category};

const PRODUCTS_PER_CATEGORY: usize = 40;
const FIRST_SKU: usize = 10_001;
/// Ranks count from here: the flattened head of a Zipf–Mandelbrot law, or the first rank would take a sixth of all sales.
const FIRST_RANK: u64 = 4;

pub(super) struct Product {
    pub(super) sku: String,
    pub(super) brand: &'static str,
    pub(super) category: &'static str,
    pub(super) supplier: &'static str,
    /// What it costs on average, in cents; each market starts from here.
    pub(super) cents: u32,
    base_title: String,
    renewed_label: &'static str,
    renewed: bool,
}

impl Product {
    pub(super) fn title(&self) -> String {
        if self.renewed { format!("{} ({})", self.base_title, self.renewed_label) } else { self.base_title.clone() }
    }
}

pub(super) struct Catalogue {
    products: Vec<Product>,
    /// Products by rank, best seller first.
    ranking: Vec<usize>,
    /// Of the weights by rank: the sum up to and with each.
    cumulative: Vec<u64>,
}

impl Catalogue {
    pub(super) fn new(rng: &mut ChaCha8Rng) -> Self {
        let mut products = Vec::with_capacity(CATEGORIES.len() * PRODUCTS_PER_CATEGORY);
        for category in &CATEGORIES {
            stock_up(&mut products, category, rng);
        }
        let mut ranking: Vec<usize> = (0..products.len()).collect();
        ranking.shuffle(rng);
        let cumulative = ranking
            .iter()
            .zip(FIRST_RANK..)
            .scan(0, |sum, (_, rank)| {
                *sum += weight(rank);
                Some(*sum)
            })
            .collect();
        Self { products, ranking, cumulative }
    }

    pub(super) fn len(&self) -> usize {
        self.products.len()
    }

    pub(super) fn products(&self) -> &[Product] {
        &self.products
    }

    pub(super) fn best_seller(&self) -> &Product {
        &self.products[self.ranking[0]]
    }

    /// Each product with its demand, 1000 for the best seller.
    pub(super) fn demand(&self) -> Vec<u32> {
        let mut demand = vec![0; self.products.len()];
        for (&product, rank) in self.ranking.iter().zip(FIRST_RANK..) {
            let permille = weight(rank) * 1000 / weight(FIRST_RANK);
            demand[product] = u32::try_from(permille).unwrap_or(1000);
        }
        demand
    }

    pub(super) fn popular(&self, rng: &mut ChaCha8Rng) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(1);
        let roll = rng.random_range(0..total);
        self.ranking[self.cumulative.partition_point(|&sum| sum <= roll)]
    }

    pub(super) fn toggle_renewed(&mut self, product: usize) {
        self.products[product].renewed ^= true;
    }
}

fn weight(rank: u64) -> u64 {
    1_000_000 / rank
}

/// Adds a category's products. Every pair of adjective and good comes at most once, so that no two titles are alike.
fn stock_up(products: &mut Vec<Product>, category: &'static Category, rng: &mut ChaCha8Rng) {
    let mut pairs: Vec<_> =
        category.goods.iter().flat_map(|good| category.adjectives.iter().map(move |adjective| (adjective, good))).collect();
    pairs.shuffle(rng);
    for (adjective, good) in pairs.into_iter().take(PRODUCTS_PER_CATEGORY) {
        let brand = &category.brands[rng.random_range(0..category.brands.len())];
        let size = good.sizes[rng.random_range(0..good.sizes.len())];
        products.push(Product {
            sku: format!("SKU-{}", FIRST_SKU + products.len()),
            brand: brand.name,
            category: category.name,
            supplier: brand.supplier,
            cents: rng.random_range(good.cents_min..=good.cents_max),
            base_title: format!("{} {adjective} {}, {size}", brand.name, good.name),
            renewed_label: category.renewed,
            renewed: false,
        });
    }
}
