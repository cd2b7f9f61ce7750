"""The words that the offline splitter knows: who is a person, what verbs show, where places are."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MALE = _words("""
    man boy king prince father dad daddy papa brother son uncle nephew grandfather grandpa granddad husband
    groom gentleman lord duke knight wizard sorcerer monk priest waiter actor fisherman policeman fireman
    postman milkman businessman cowboy salesman sir mr lad guy fellow stepfather grandson bridegroom emperor
    santa samurai
""")
FEMALE = _words("""
    woman girl queen princess mother mom mum mummy mommy mama sister daughter aunt niece grandmother grandma
    granny wife bride lady duchess witch nun waitress actress heroine maid mrs miss ms madam lass stepmother
    stepsister granddaughter ballerina empress mermaid fairy goddess
""")
PERSON = _words("""
    person people child kid baby toddler twin teacher doctor nurse farmer hunter soldier sailor captain guard
    thief pirate cook chef baker painter singer dancer driver pilot astronaut scientist detective sheriff
    policeman police officer student pupil professor friend stranger traveller traveler villager giant dwarf elf
    troll monster ghost robot alien clown juggler merchant miller tailor smith blacksmith shepherd general
    master servant prisoner judge author writer poet musician artist player runner rider swimmer skater worker
    builder gardener librarian shopkeeper neighbor neighbour family crowd audience crew team class army couple
    band conductor passenger guide enemy hero boss butler maid assistant keeper owner visitor tourist guest host
    burglar robber spy agent wizard witch ranger fisherman mechanic engineer butcher barber beggar orphan hermit
    snowman scarecrow puppet teenager man woman boy girl everyone everybody someone somebody anyone nobody
    parent cousin partner winner loser leader follower champion defender referee goalkeeper coach fan
    firefighter paramedic patient creature heir baron count countess earl peasant noble nobleman sculptor
    dentist surgeon lawyer secretary director president mayor minister prime-minister senator governor chief
    chieftain tribe inventor explorer adventurer astronomer biologist chemist mathematician pianist violinist
    guitarist drummer trumpeter composer dj photographer cameraman reporter journalist editor clerk cashier
    waiter bartender porter bellboy janitor cleaner plumber electrician carpenter roofer lumberjack woodcutter
    miner fireman lifeguard sergeant lieutenant colonel private marine recruit rebel outlaw bandit smuggler
    fugitive refugee immigrant settler pioneer landlord landlady innkeeper clockmaker watchmaker shoemaker
    cobbler candlemaker goldsmith jeweller jeweler weaver seamstress potter glassblower shepherdess goatherd
    milkmaid swineherd stablehand squire page jester bard minstrel oracle prophet saint pilgrim priestess shaman
    druid warlock sorceress enchantress ogre ogress goblin gnome imp fairy-godmother pixie nymph centaur cyclops
    minotaur titan golem mummy spirit phantom android cyborg clone spaceman cosmonaut commander admiral boatman
    ferryman helmsman stowaway castaway grandparent grandchild stepson stepdaughter fiance fiancee widow widower
    bachelor youth adolescent elder infant newborn schoolboy schoolgirl girlfriend boyfriend classmate roommate
    teammate colleague rival opponent attacker intruder suspect witness victim hostage kidnapper killer murderer
    assassin sniper swordsman knight-errant horseman charioteer gladiator wrestler boxer batter pitcher striker
    skipper jockey racer biker motorcyclist trucker cabbie pedestrian passerby bystander onlooker spectator
    commuter hitchhiker backpacker camper snowboarder gymnast ballerina ballet-dancer choreographer skeleton
    vampire zombie werewolf genie angel demon devil god toy doll nomad knight samurai ninja warrior archer
    vendor seller customer client dealer gambler magician acrobat diver climber hiker skier surfer jogger
    cyclist gunner sentry scout courier messenger herald harpist flautist cellist trombonist fiddler piper bugler
    organist soprano tenor tailoress dressmaker hatter tanner tinker toymaker bookbinder bookseller printer typist
    barista busboy dishwasher sommelier caterer greengrocer grocer fishmonger florist beekeeper zookeeper
    lighthouse-keeper gatekeeper groundskeeper gravedigger undertaker chimney-sweep lamplighter watchman doorman
    nightwatchman caretaker handyman surveyor architect bricklayer mason stonemason welder fitter crane-driver
    conductor stationmaster signalman stoker navigator bosun deckhand cabin-boy harpooner whaler trapper poacher
    forester woodsman drover rancher farmhand ploughman thatcher reaper gleaner picker harvester vintner brewer
    tourist pilgrim wanderer drifter tramp hobo vagabond wayfarer rambler explorer tracker mountaineer sherpa
    goalie keeper striker midfielder batsman bowler sprinter hurdler marathoner rower sculler fencer judoka
    weightlifter contestant competitor finalist juror lawyer bailiff notary banker broker accountant cashier teller
    scholar philosopher historian linguist geologist archaeologist botanist zoologist biologist physicist
    alchemist apothecary pharmacist midwife orderly surgeon optician psychiatrist therapist veterinarian vet
    headmaster headmistress principal tutor governess nanny babysitter au-pair stepbrother sibling triplet
    grandchild godmother godfather ancestor descendant newcomer outsider foreigner native local resident lodger
    tenant landlubber hitchhiker daredevil stuntman ringmaster trapeze-artist mime ventriloquist hypnotist
    illusionist conjurer fortune-teller tightrope-walker snake-charmer storyteller narrator bride bridesmaid
    groom usher mourner worshipper choirboy altar-boy bishop cardinal pope abbot friar rabbi imam preacher vicar
    parson pastor deacon missionary martyr sultan emir pharaoh tsar czar regent chancellor ambassador diplomat
    courtier chamberlain vizier steward valet footman coachman groomsman scullion serf vassal crusader
    musketeer cavalryman infantryman paratrooper veteran deserter conscript cadet corporal brigadier
    buccaneer corsair privateer mutineer highwayman pickpocket forger counterfeiter conman trickster villain
    henchman crook gangster mobster thug bully vandal arsonist hacker inmate convict jailer warden warder
    executioner hangman inquisitor informer traitor rescuer saviour benefactor donor helper sidekick companion
    mate buddy pal fellow folk townsfolk villager townsman islander caveman mutant martian earthling leprechaun
    brownie sprite banshee poltergeist ghoul wraith cherub bogeyman yeti bigfoot sandman superhero supervillain
""")
ANIMAL = _words("""
    animal dog puppy cat kitten kitty horse pony foal donkey mule cow bull calf ox goat sheep lamb ram pig
    piglet hen rooster chicken chick duck duckling goose swan bird eagle hawk owl crow raven sparrow parrot
    pigeon seagull gull robin penguin ostrich peacock turkey fox wolf bear panda koala lion lioness cub tiger
    leopard cheetah elephant giraffe zebra hippo rhino monkey ape gorilla chimpanzee camel llama deer stag fawn
    moose rabbit bunny hare mouse rat squirrel hedgehog hamster beaver badger mole raccoon skunk otter seal
    walrus whale dolphin shark fish salmon trout octopus squid crab lobster turtle tortoise frog toad lizard
    snake crocodile alligator dinosaur dragon unicorn bee wasp ant spider butterfly moth fly beetle ladybird
    ladybug grasshopper cricket worm snail caterpillar firefly bat teddy heron stork crane flamingo vulture
    falcon pelican woodpecker magpie jackal hyena panther lynx coyote weasel ferret porcupine armadillo anteater
    antelope gazelle elk bison yak oxen beast hound terrier poodle mare stallion colt mutt fox-cub bear-cub
    jellyfish starfish eel swordfish orca seahorse tadpole newt salamander gecko cobra python viper scorpion
    dragonfly mosquito flea tick slug hornet bumblebee cicada locust termite canary finch swallow nightingale
    lark cuckoo hummingbird partridge pheasant quail dove kangaroo sloth buffalo reindeer phoenix griffin pup
    gosling cygnet leveret kid nanny-goat billy-goat heifer bullock tomcat tabby bulldog sheepdog greyhound
    dalmatian spaniel retriever labrador collie dachshund puffin albatross cormorant kingfisher wren finch thrush
    blackbird starling jay jackdaw rook buzzard kestrel kite-bird condor toucan macaw cockatoo budgie peahen
    cockerel bantam chipmunk gopher marmot mongoose meerkat badger-cub wombat opossum possum platypus dingo
    aardvark okapi tapir warthog boar hog sow piranha pike carp goldfish eel tuna cod herring stingray manatee
    narwhal shrimp prawn oyster clam barnacle chameleon iguana anaconda boa tarantula millipede centipede
    silkworm glow-worm mayfly gnat midge aphid caribou mammoth tyrannosaurus stegosaurus pterodactyl
""")
# Common first names, for "he" and "she"; any other name takes either.
MALE_NAMES = _words("""
    adam ahmed alan albert alex alexander ali andrew anthony arthur ben benjamin bill bob bruno carl carlos
    charles charlie chris christopher daniel dave david dan edward emil eric ethan felix finn francis frank fred
    frederick gabriel george hans harry henry hugo ian isaac jack jacob jake james jan jason jean jim joe john
    jonas jonathan jose joseph juan julian karl ken kevin lars leo leon liam louis lucas luke marco mark martin
    matt matthew max michael mike mohammed nathan nick noah oliver omar oscar otto patrick paul pedro peter
    philip pierre pete ravi ray richard rob robert robin roger sam samuel scott sebastian simon stefan stephen
    steve steven ted theo thomas tim timothy toby tom tommy tony victor vincent walter will william yusuf
""") - {"will", "mark", "robin", "alex"}
FEMALE_NAMES = _words("""
    ada agnes alice amelia amina amy ana andrea angela anita ann anna anne annie beth betty bella carla carmen
    caroline cathy cecilia charlotte chloe christina cinderella clara claire daisy diana dora dorothy eleanor
    elena elisa eliza elizabeth ella ellen elsa emily emma erica eva eve fatima fiona flora frida georgia grace
    greta hannah heather helen helena ida ingrid irene irina iris isabel isabella jane janet jenny jessica jill
    joan judy julia julie karen kate katie laila laura layla lea lena leila lily linda lisa lola louise lucy
    luna lydia maggie maria marie martha mary maya mei mia mina mira molly nadia nancy natalie nina nora olga
    olivia paula penelope petra polly rachel rebecca rita rosa rose ruby ruth sally sandra sara sarah sofia
    sonia sophia sophie stella susan sylvia tara tina vera victoria violet wendy yasmin yuki zoe
""") - {"rose", "violet", "grace"}
# Persons of a kind that "it" may stand for.
CREATURES = _words("""
    robot ghost monster scarecrow snowman alien toy doll creature skeleton puppet baby child infant newborn phantom
    spirit golem android cyborg mummy troll goblin gnome imp zombie ogre cyclops demon
""")
GROUPS = _words(
    "family crowd audience crew team class army couple band police people staff pack herd flock gang cavalry"
)
TREATS = _words("breakfast lunch dinner supper picnic party bath snack drink meal fight race nap tea")
PARTICLES = _words("""
    away back home up down out in off around together along across inside outside over past by through upstairs
    downstairs forward backwards apart ashore overboard asleep alone above below aside
""")
BODY = _words("""
    head hand arm leg foot eye ear nose mouth tooth tongue hair face finger thumb toe knee shoulder back neck
    tail paw wing claw beak fin fur feather breath heart voice lip cheek chin chest belly trunk hoof horn
""")
COUNTS = _words(
    "hundred dozen thousand million lot score plenty couple pair number handful most some both all each one none"
)
MISSED = _words("bus train plane ferry boat tram ball goal target shot penalty step stair turn mark")
MASS = _words("""
    water tea coffee milk juice wine beer snow rain sand grass bread cheese honey sugar salt flour butter meat
    rice soup food wood gold silver money music fire smoke dust mud ice hay grain paint ink blood wool paper
    glass iron breakfast lunch dinner supper chess football soccer tennis basketball cricket hide-and-seek cocoa
    chocolate
""")

STATES = _words("""
    be have seem appear_to live love hate like want wish hope need own belong contain mean matter cost know
    think believe understand remember forget wonder doubt suppose imagine prefer deserve exist depend consist
    fit feel realize realise recognize recognise dislike enjoy fear miss trust plan intend expect dream weigh
    hurt ache concern involve include lack owe possess resemble suit differ last remain stretch_to suffer tend
    regret care suspect guess agree disagree dread adore despise learn decide get_used hesitate_to consider
""") - {"appear_to", "stretch_to", "get_used", "hesitate_to"}
SPEECH = _words("""
    say ask tell reply answer explain promise announce declare warn add agree admit claim insist suggest mention
    remark state respond report argue continue begin repeat think wonder know believe hope decide realize
    realise remember feel figure guess muse complain confess boast beg demand inquire advise protest note
""")
# "began to run", "tried to open", "decided to leave": the inner verb is what one sees
VOICES = _words("shout whisper scream yell call cry sing roar laugh shriek howl")
# what "was broken" tells is how something is, not that somebody breaks it
STAYING = _words("break close lock crowd cover fill decorate dress hide abandon desert clutter stick freeze seat")
# "promised to come back" shows nobody coming
NOT_DONE = _words("promise swear vow threaten refuse fail hesitate forget")
ASPECT = _words(
    "begin start continue keep try decide manage have use proceed dare attempt agree choose get go happen learn"
)
PERCEPTION = _words("see hear watch notice feel find spot let make help have observe smell catch leave")
CHANGES = _words("get grow become run lie stay stand feel look sound taste smell remain keep seem appear")
NEVER = _words("nobody nothing none neither no-one")

TIME = _words("""
    morning afternoon evening night midnight noon midday dawn dusk sunrise sunset day week month year hour
    minute second moment time summer winter spring autumn fall today tomorrow yesterday tonight monday tuesday
    wednesday thursday friday saturday sunday while century decade season weekend birthday christmas lunchtime
    bedtime
""")
INDEFINITE = _words("""
    one other another both all some many few each everyone everybody someone somebody anyone anybody none nobody
    most others several either neither something everything nothing
""")

# Nouns that name a place: the storybook world's own place where one is near in meaning, else "".
PLACES = dict.fromkeys(
    [
        "glacier",
        "harbour",
        "harbor",
        "bay",
        "island",
        "lagoon",
        "sand",
        "dock",
        "pier",
        "lake",
        "river",
        "stream",
        "pond",
        "riverbank",
        "lakeside",
        "port",
        "waterfall",
        "water",
        "ship",
        "boat",
        "deck",
        "oasis",
        "ice",
        "snow",
        "avenue",
        "alley",
        "station",
        "shop",
        "store",
        "bridge",
        "sidewalk",
        "pavement",
        "crossing",
        "highway",
        "stadium",
        "airport",
        "car",
        "bus",
        "train",
        "hotel",
        "cafe",
        "restaurant",
        "bar",
        "office",
        "school",
        "classroom",
        "library",
        "museum",
        "hospital",
        "bank",
        "factory",
        "theatre",
        "theater",
        "cinema",
        "stage",
        "hall",
        "court",
        "subway",
        "platform",
        "garage",
        "gym",
        "arena",
        "track",
        "racetrack",
        "supermarket",
        "roof",
        "rooftop",
        "room",
        "attic",
        "house",
        "home",
        "cottage",
        "apartment",
        "flat",
        "lounge",
        "sofa",
        "hut",
        "cabin",
        "tent",
        "tower",
        "courtyard",
        "temple",
        "church",
        "cathedral",
        "dungeon",
        "fortress",
        "greenhouse",
        "vineyard",
        "field",
        "farm",
        "barn",
        "farmyard",
        "cave",
        "volcano",
        "path",
        "trail",
        "desert",
        "space",
        "crater",
        "rocket",
        "spaceship",
        "galaxy",
        "bakery",
        "pantry",
        "pasture",
        "zoo",
        "camp",
        "circus",
        "fairground",
        "village",
        "well",
        "ruins",
        "corridor",
        "stairs",
        "aisle",
    ],
    "",
) | {
    noun: place
    for place, nouns in {
        "snowy forest": "forest wood woods woodland jungle glade clearing trees thicket grove",
        "beach": "beach shore seaside coast sea seashore",
        "city": "city town street downtown road square market",
        "bedroom": "bedroom nursery bed",
        "palace": "palace castle throne ballroom",
        "garden": "garden flowerbed orchard yard backyard",
        "mountains": "mountain mountains hill hills valley cliff peak ridge slope summit",
        "mars": "mars planet",
        "starry night": "stars",
        "kitchen": "kitchen",
        "underwater": "underwater reef seabed depths",
        "park": "park playground meadow lawn",
    }.items()
    for noun in nouns.split()
}
AT = _words("""
    lake river pond stream sea shore coast market station school zoo well harbour harbor bridge airport table
    window pier dock shop store border fence gate door
""")
ON = _words(
    "bridge road street roof rooftop stairs aisle deck ship boat stage beach hill platform island path trail ice"
)
INDOORS = _words("""
    kitchen bedroom bed room nursery attic house home cottage apartment palace castle hall library museum
    hospital shop store cafe restaurant bakery school classroom church barn hut cabin office theatre theater
    cinema hotel cave train
""")
WEATHER = {
    "in the rain": _words("rain rainy raining rained drizzle storm stormy thunder wet"),
    "in the falling snow": _words("snowing snowed snowfall blizzard snowflake snowflakes"),
    "on a sunny day": _words("sunny sunshine"),
    "in the fog": _words("fog foggy mist misty"),
    "in the wind": _words("windy"),
}
HOURS = {
    "at night": _words("night midnight tonight bedtime nightfall"),
    "in the evening": _words("evening"),
    "at sunset": _words("sunset dusk twilight"),
    "at sunrise": _words("dawn sunrise"),
    "": _words("morning noon midday afternoon day daylight"),
}

# What common footage shows for the creatures and the deeds of stories.
FOOTAGE = {
    "wolf": "dog",
    "fawn": "deer",
    "unicorn": "horse",
    "pony": "horse",
    "foal": "horse",
    "dragon": "animal",
    "phoenix": "bird",
    "griffin": "bird",
    "giant": "man",
    "dwarf": "man",
    "elf": "person",
    "troll": "man",
    "monster": "man",
    "mermaid": "woman",
    "skeleton": "person",
    "vampire": "man",
    "zombie": "man",
}
MOTIONS = {
    "go": "walking",
    "leave": "walking away",
    "enter": "walking",
    "cross": "walking across",
    "come": "coming closer",
    "arrive": "coming closer",
    "approach": "coming closer",
    "return": "walking",
    "wander": "walking",
    "stroll": "walking",
    "flee": "running",
    "escape": "running",
    "chase": "running after",
    "hurry": "running",
    "kill": "fighting",
    "slay": "fighting",
    "discover": "finding",
    "vanish": "walking away",
    "disappear": "walking away",
    "wait": "sitting",
    "rest": "sitting",
    "doze": "sleeping",
    "fall asleep": "sleeping",
    "say": "talking",
    "tell": "talking",
    "whisper": "talking",
    "shout": "shouting",
    "soar": "flying",
    "hop": "jumping",
    "leap": "jumping",
}
# What relatives look like.
KIN = {
    "father": "man", "dad": "man", "daddy": "man", "papa": "man", "uncle": "man", "husband": "man", "nephew": "boy",
    "mother": "woman", "mum": "woman", "mom": "woman", "mummy": "woman", "mommy": "woman", "mama": "woman",
    "aunt": "woman", "wife": "woman", "niece": "girl", "brother": "boy", "son": "boy", "sister": "girl",
    "daughter": "girl", "grandson": "boy", "granddaughter": "girl", "grandfather": "old man", "grandpa": "old man",
    "granddad": "old man", "grandmother": "old woman", "grandma": "old woman", "granny": "old woman",
}  # fmt: skip
MOVING = _words("walk run go stroll wander hurry dash race jog ride drive march crawl creep sneak fly soar swim skate")
