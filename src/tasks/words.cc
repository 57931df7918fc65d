#include "tasks/words.h"

namespace fathom {
namespace {

constexpr std::string_view kNames[] = {"Anna",  "Ben",  "Clara", "David", "Emma", "Frank", "Grace",
                                       "Henry", "Ivan", "Julia", "Kevin", "Lena", "Max",   "Nina",
                                       "Oscar", "Paul", "Rosa",  "Sam",   "Tina", "Victor"};

constexpr std::string_view kWords[] = {
    "able",    "above",   "air",     "animal", "answer",  "apple",  "arm",    "art",     "aunt",    "baby",   "back",
    "bag",     "ball",    "bank",    "basket", "bath",    "beach",  "bean",   "bear",    "bed",     "bell",   "bench",
    "bird",    "black",   "blood",   "blue",   "board",   "boat",   "body",   "bone",    "book",    "boot",   "bottle",
    "bowl",    "box",     "boy",     "branch", "bread",   "bridge", "bright", "brother", "brown",   "brush",  "bus",
    "butter",  "button",  "cake",    "camera", "camp",    "candle", "car",    "card",    "carpet",  "castle", "cat",
    "chair",   "chalk",   "cheese",  "cherry", "chest",   "child",  "church", "circle",  "city",    "class",  "clean",
    "clock",   "cloth",   "cloud",   "coat",   "coffee",  "coin",   "cold",   "color",   "corn",    "corner", "cotton",
    "cow",     "cream",   "cross",   "crown",  "cup",     "dance",  "dark",   "day",     "deep",    "desk",   "dinner",
    "doctor",  "dog",     "doll",    "door",   "dream",   "dress",  "drink",  "drum",    "dry",     "duck",   "dust",
    "ear",     "earth",   "egg",     "engine", "evening", "eye",    "face",   "family",  "farm",    "farmer", "father",
    "feather", "field",   "finger",  "fire",   "fish",    "flag",   "floor",  "flower",  "fly",     "food",   "foot",
    "forest",  "fork",    "fox",     "friend", "frog",    "fruit",  "game",   "garden",  "gate",    "gift",   "girl",
    "glass",   "glove",   "goat",    "gold",   "good",    "grape",  "grass",  "green",   "ground",  "guitar", "hair",
    "hammer",  "hand",    "happy",   "hat",    "heart",   "heavy",  "hill",   "honey",   "horse",   "hotel",  "hour",
    "house",   "human",   "ice",     "iron",   "island",  "jacket", "job",    "juice",   "jump",    "key",    "king",
    "kitchen", "kite",    "knee",    "knife",  "lake",    "lamp",   "land",   "large",   "leaf",    "leg",    "lemon",
    "letter",  "library", "light",   "lion",   "lip",     "list",   "long",   "lunch",   "machine", "map",    "market",
    "meal",    "meat",    "metal",   "milk",   "minute",  "mirror", "money",  "monkey",  "month",   "moon",   "morning",
    "mother",  "mouse",   "mouth",   "music",  "nail",    "name",   "neck",   "needle",  "nest",    "night",  "nose",
    "number",  "nurse",   "ocean",   "office", "onion",   "orange", "oven",   "owl",     "page",    "paint",  "paper",
    "park",    "party",   "pear",    "pen",    "pencil",  "pepper", "piano",  "picture", "pig",     "pilot",  "plan",
    "planet",  "plant",   "plate",   "pocket", "police",  "pond",   "potato", "prince",  "purple",  "queen",  "quick",
    "quiet",   "rabbit",  "rain",    "red",    "rice",    "ring",   "river",  "road",    "rock",    "roof",   "room",
    "root",    "rope",    "rose",    "round",  "salt",    "sand",   "school", "sea",     "season",  "seed",   "sheep",
    "shelf",   "ship",    "shirt",   "shoe",   "shop",    "silver", "sister", "skin",    "sky",     "sleep",  "slow",
    "smile",   "snake",   "snow",    "soap",   "sock",    "soft",   "song",   "soup",    "spoon",   "spring", "square",
    "stair",   "star",    "station", "stone",  "storm",   "story",  "street", "strong",  "student", "sugar",  "summer",
    "sun",     "sweet",   "table",   "tail",   "teacher", "tent",   "ticket", "tiger",   "time",    "toe",    "tomato",
    "tongue",  "tooth",   "tower",   "town",   "toy",     "train",  "tree",   "truck",   "uncle",   "valley", "village",
    "violin",  "voice",   "wall",    "warm",   "watch",   "water",  "week",   "wheel",   "white",   "wind",   "window",
    "wing",    "winter",  "wolf",    "woman",  "wood",    "wool",   "word",   "work",    "world",   "yard",   "year",
    "yellow",  "young",   "zebra",   "zero"};

constexpr std::string_view kListWords[] = {
    "able",   "above",  "air",     "animal", "apple",  "arm",     "art",    "aunt",    "baby",    "beach",  "bean",
    "bird",   "black",  "board",   "boat",   "branch", "bus",     "butter", "cake",    "chair",   "chalk",  "circle",
    "class",  "clean",  "coat",    "cream",  "cross",  "cup",     "dance",  "deep",    "desk",    "dinner", "doctor",
    "dream",  "dress",  "duck",    "ear",    "earth",  "egg",     "engine", "evening", "eye",     "face",   "feather",
    "field",  "finger", "flag",    "food",   "foot",   "friend",  "game",   "garden",  "gift",    "glass",  "glove",
    "goat",   "grape",  "grass",   "guitar", "hair",   "heart",   "heavy",  "hill",    "honey",   "human",  "ice",
    "iron",   "island", "jacket",  "job",    "juice",  "jump",    "key",    "king",    "knee",    "knife",  "lake",
    "leaf",   "leg",    "library", "long",   "lunch",  "machine", "map",    "meal",    "milk",    "minute", "money",
    "music",  "nail",   "name",    "neck",   "night",  "nose",    "number", "nurse",   "ocean",   "office", "onion",
    "orange", "oven",   "owl",     "page",   "pear",   "pen",     "piano",  "plan",    "planet",  "pocket", "prince",
    "purple", "queen",  "quick",   "rabbit", "red",    "rice",    "ring",   "road",    "salt",    "sand",   "school",
    "sea",    "sheep",  "shelf",   "silver", "skin",   "sky",     "sleep",  "smile",   "snake",   "snow",   "soap",
    "spoon",  "spring", "square",  "stair",  "sugar",  "summer",  "sweet",  "table",   "teacher", "tent",   "ticket",
    "toe",    "tomato", "train",   "uncle",  "valley", "village", "violin", "voice",   "wall",    "week",   "wheel",
    "white",  "wind",   "wolf",    "woman",  "yard",   "year",    "young",  "zebra",   "zero"};

constexpr std::string_view kThings[] = {"apples", "books",  "cards",   "coins", "cups",   "eggs",    "pens",  "plates",
                                        "shirts", "stamps", "tickets", "toys",  "chairs", "bottles", "lamps", "boxes"};

constexpr std::string_view kMadeUp[] = {"wugs",  "daks",  "blins", "zorps", "feps",   "lums",  "tovs",  "grubs",
                                        "norks", "pliks", "quabs", "rints", "snells", "trebs", "vokes", "yims",
                                        "brons", "dorns", "flims", "gorps", "jints",  "kels",  "mips",  "wolds"};

}  // namespace

std::span<const std::string_view> Names() { return kNames; }
std::span<const std::string_view> Words() { return kWords; }
std::span<const std::string_view> ListWords() { return kListWords; }
std::span<const std::string_view> Things() { return kThings; }
std::span<const std::string_view> MadeUp() { return kMadeUp; }

}  // namespace fathom
