//! The words the catalogue is made of: brands, suppliers, goods. All names are invented.
//!
//! Data only. The order of each list is part of what a seed means: a change here changes every generated shop.

pub(super) struct Brand {
    pub(super) name: &'static str,
    /// One supplier a brand, so that what a supplier may see is whole brands.
    pub(super) supplier: &'static str,
}

pub(super) struct Good {
    pub(super) name: &'static str,
    pub(super) sizes: &'static [&'static str],
    pub(super) cents_min: u32,
    pub(super) cents_max: u32,
}

pub(super) struct Category {
    pub(super) name: &'static str,
    /// What stands in the title once the product was changed.
    pub(super) renewed: &'static str,
    pub(super) brands: [Brand; 3],
    pub(super) adjectives: [&'static str; 6],
    pub(super) goods: [Good; 10],
}

const NORDKONTOR: &str = "Nordkontor Supply";
const HAVELSPEICHER: &str = "Havelspeicher Foods";
const ALPENQUELL: &str = "Alpenquell Drinks";
const ELBMAGAZIN: &str = "Elbmagazin Home";
const SPREEFUNK: &str = "Spreefunk Devices";
const ISARZWIRN: &str = "Isarzwirn Textiles";
const DONAUKISTE: &str = "Donaukiste Toys";
const LIMMATGARTEN: &str = "Limmatgarten Trade";
const SUNDERMARK: &str = "Sundermark Wholesale";
const ROSSKAMP: &str = "Rosskamp & Daughters";

const fn brand(name: &'static str, supplier: &'static str) -> Brand {
    Brand { name, supplier }
}

const fn good(name: &'static str, sizes: &'static [&'static str], cents_min: u32, cents_max: u32) -> Good {
    Good { name, sizes, cents_min, cents_max }
}

const WEIGHTS: &[&str] = &["250 g", "400 g", "500 g", "1 kg"];
const JARS: &[&str] = &["180 g", "340 g", "450 g"];
const BOTTLES: &[&str] = &["0.5 l", "0.75 l", "1 l"];
const TUBES: &[&str] = &["50 ml", "75 ml", "150 ml"];
const FLASKS: &[&str] = &["250 ml", "400 ml", "500 ml"];
const CLOTHES: &[&str] = &["S", "M", "L", "XL"];
const COLOURS: &[&str] = &["black", "graphite", "sand", "white"];
const ONE_SIZE: &[&str] = &["one size"];
const SETS: &[&str] = &["set of 2", "set of 4", "single"];
const AGES: &[&str] = &["from 3 years", "from 5 years", "from 8 years"];
const SEEDS: &[&str] = &["1 sachet", "3 sachets"];

pub(super) static CATEGORIES: [Category; 8] = [
    Category {
        name: "groceries",
        renewed: "new recipe",
        brands: [brand("Brundlow", HAVELSPEICHER), brand("Pommerly", HAVELSPEICHER), brand("Oskenfeld", ROSSKAMP)],
        adjectives: ["Organic", "Classic", "Farmhouse", "Wholesome", "Fine", "Everyday"],
        goods: [
            good("Muesli", WEIGHTS, 249, 699),
            good("Rolled Oats", WEIGHTS, 99, 299),
            good("Spelt Pasta", WEIGHTS, 149, 399),
            good("Basmati Rice", WEIGHTS, 199, 549),
            good("Red Lentils", WEIGHTS, 149, 379),
            good("Tomato Passata", JARS, 89, 249),
            good("Strawberry Jam", JARS, 179, 449),
            good("Blossom Honey", JARS, 349, 899),
            good("Rye Crackers", WEIGHTS, 129, 329),
            good("Hazelnut Spread", JARS, 219, 549),
        ],
    },
    Category {
        name: "beverages",
        renewed: "new bottle",
        brands: [brand("Quillmere", ALPENQUELL), brand("Zimbral", ALPENQUELL), brand("Tarnholt", ROSSKAMP)],
        adjectives: ["Original", "Mild", "Alpine", "Sparkling", "Garden", "Sunny"],
        goods: [
            good("Apple Juice", BOTTLES, 149, 399),
            good("Elderflower Lemonade", BOTTLES, 129, 349),
            good("Ginger Ale", BOTTLES, 119, 299),
            good("Rhubarb Spritzer", BOTTLES, 139, 329),
            good("Pear Nectar", BOTTLES, 159, 379),
            good("Mint Iced Tea", BOTTLES, 109, 279),
            good("Grape Juice", BOTTLES, 189, 449),
            good("Mineral Water", BOTTLES, 49, 129),
            good("Cherry Cordial", BOTTLES, 249, 599),
            good("Quince Soda", BOTTLES, 139, 329),
        ],
    },
    Category {
        name: "household",
        renewed: "improved",
        brands: [brand("Klarwick", ELBMAGAZIN), brand("Ombelline", ELBMAGAZIN), brand("Tidewren", SUNDERMARK)],
        adjectives: ["Sturdy", "Compact", "Natural", "Family", "Nordic", "Practical"],
        goods: [
            good("Storage Box", SETS, 599, 2499),
            good("Kitchen Towel", SETS, 299, 1299),
            good("Frying Pan", &["24 cm", "28 cm"], 1999, 6999),
            good("Cutting Board", &["small", "large"], 999, 3999),
            good("Laundry Basket", COLOURS, 1299, 3999),
            good("Water Carafe", &["1 l", "1.5 l"], 1299, 3499),
            good("Bread Knife", &["20 cm", "23 cm"], 1499, 5999),
            good("Stoneware Mug", SETS, 699, 1999),
            good("Dish Brush", SETS, 249, 899),
            good("Table Lamp", COLOURS, 2499, 8999),
        ],
    },
    Category {
        name: "electronics",
        renewed: "2nd generation",
        brands: [brand("Voltarre", SPREEFUNK), brand("Nexquill", SPREEFUNK), brand("Hexandor", SUNDERMARK)],
        adjectives: ["Slim", "Wireless", "Travel", "Studio", "Urban", "Smart"],
        goods: [
            good("Headphones", COLOURS, 3999, 24999),
            good("Speaker", COLOURS, 2999, 19999),
            good("Charger", &["20 W", "45 W", "65 W"], 1499, 5999),
            good("Power Bank", &["5000 mAh", "10000 mAh"], 1999, 6999),
            good("Keyboard", COLOURS, 2999, 12999),
            good("Mouse", COLOURS, 1499, 7999),
            good("Desk Light", COLOURS, 2499, 8999),
            good("Alarm Clock", COLOURS, 1999, 5999),
            good("Tablet", &["64 GB", "128 GB"], 17999, 54999),
            good("Fitness Band", COLOURS, 2999, 12999),
        ],
    },
    Category {
        name: "apparel",
        renewed: "new cut",
        brands: [brand("Lindmarrow", ISARZWIRN), brand("Ardenvane", ISARZWIRN), brand("Fjellwick", NORDKONTOR)],
        adjectives: ["Relaxed", "Merino", "Everyday", "Striped", "Harbour", "Soft"],
        goods: [
            good("T-Shirt", CLOTHES, 1299, 3499),
            good("Sweater", CLOTHES, 3999, 11999),
            good("Cardigan", CLOTHES, 4499, 12999),
            good("Overshirt", CLOTHES, 3999, 9999),
            good("Scarf", ONE_SIZE, 1499, 4999),
            good("Beanie", ONE_SIZE, 999, 2999),
            good("Socks", &["36-38", "39-42", "43-46"], 499, 1799),
            good("Pyjamas", CLOTHES, 2499, 6999),
            good("Gloves", CLOTHES, 1499, 4499),
            good("Bathrobe", CLOTHES, 3499, 8999),
        ],
    },
    Category {
        name: "toys",
        renewed: "new edition",
        brands: [brand("Wobbleton", DONAUKISTE), brand("Pipkinlot", DONAUKISTE), brand("Trundlebee", SUNDERMARK)],
        adjectives: ["Cheerful", "Colourful", "Little", "Magic", "Jolly", "Giant"],
        goods: [
            good("Train Set", AGES, 1999, 7999),
            good("Building Blocks", AGES, 1499, 5999),
            good("Puzzle", &["60 pieces", "200 pieces", "500 pieces"], 799, 2499),
            good("Plush Bear", &["20 cm", "35 cm", "60 cm"], 1299, 4999),
            good("Memory Game", AGES, 899, 2299),
            good("Marble Run", AGES, 2499, 7999),
            good("Kite", AGES, 999, 3499),
            good("Doll's House", AGES, 4999, 14999),
            good("Spinning Top", AGES, 399, 1299),
            good("Farm Animals", SETS, 699, 2999),
        ],
    },
    Category {
        name: "garden",
        renewed: "improved",
        brands: [brand("Mossgather", LIMMATGARTEN), brand("Rankelhof", LIMMATGARTEN), brand("Dewharrow", NORDKONTOR)],
        adjectives: ["Hardy", "Cottage", "Balcony", "Classic", "Rustic", "Heritage"],
        goods: [
            good("Watering Can", &["5 l", "10 l"], 999, 3499),
            good("Plant Pot", &["14 cm", "20 cm", "30 cm"], 499, 2999),
            good("Hand Trowel", ONE_SIZE, 599, 1999),
            good("Pruning Shears", ONE_SIZE, 1299, 4499),
            good("Herb Seeds", SEEDS, 149, 449),
            good("Wildflower Seeds", SEEDS, 199, 599),
            good("Potting Soil", &["10 l", "20 l", "40 l"], 399, 1299),
            good("Garden Gloves", CLOTHES, 499, 1799),
            good("Bird Feeder", ONE_SIZE, 1299, 3999),
            good("Hanging Basket", SETS, 899, 2999),
        ],
    },
    Category {
        name: "care",
        renewed: "new formula",
        brands: [brand("Sylvarelle", ROSSKAMP), brand("Morrowmint", NORDKONTOR), brand("Belacquor", SUNDERMARK)],
        adjectives: ["Gentle", "Fresh", "Lavender", "Sensitive", "Daily", "Pure"],
        goods: [
            good("Hand Cream", TUBES, 199, 699),
            good("Shampoo", FLASKS, 249, 899),
            good("Shower Gel", FLASKS, 149, 549),
            good("Toothpaste", TUBES, 119, 449),
            good("Body Lotion", FLASKS, 299, 1199),
            good("Face Balm", TUBES, 599, 2499),
            good("Bar Soap", SETS, 149, 599),
            good("Bath Salts", WEIGHTS, 299, 999),
            good("Hair Conditioner", FLASKS, 249, 899),
            good("Foot Scrub", TUBES, 249, 799),
        ],
    },
];
