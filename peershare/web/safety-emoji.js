// The emoji of safety codes, with their names: docs/safety-codes.md.

// Told apart at a glance and by ear, and one code point each in fonts since 2017. The order is a part of the protocol.
export const EMOJI = (
	"🐶dog 🐱cat 🐴horse 🐷pig 🐰rabbit 🐘elephant 🐧penguin 🦉owl 🐓rooster 🐢turtle 🐟fish 🐙octopus 🦋butterfly 🦀crab " +
	"🐫camel 🐼panda 🦁lion 🐊crocodile 🦈shark 🌵cactus 🌴palm 🌹rose 🍄mushroom 🍎apple 🍌banana 🍇grapes 🍓strawberry " +
	"🍋lemon 🥕carrot 🌽corn 🍞bread 🧀cheese 🎂cake 🍕pizza 🥜peanut 🌙moon 🌞sun 🌈rainbow 🔥fire ⛄snowman ☔umbrella " +
	"🏰castle 🚲bicycle 🚂train 🚀rocket ⚓anchor 🚌bus 🔑key 🔨hammer 🔔bell 📕book 💡lamp ⏰clock 🎁gift ⚽football " +
	"🎸guitar 🎺trumpet 🥁drum 👑crown 👓glasses 🤖robot 👻ghost 💍ring ⛺tent"
)
	.split(" ")
	.map((entry) => {
		const [picture, ...name] = entry;
		return { picture, name: name.join("") };
	});
