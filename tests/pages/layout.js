// What tests/test_web_layout.py asks of a page, and does in it.

// What is wrong with the screen as it stands. Of what can be scrolled to, only its width counts.
function wrongOnScreen() {
	const found = [];
	const tell = (what, element) => found.push(`${what}: ${element.outerHTML.slice(0, 160)}`);
	const style = (element) => getComputedStyle(element);
	const isSeen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
	const isCut = (element) =>
		element && (/hidden|clip|auto|scroll/.test(style(element).overflowX) || isCut(element.parentElement));
	const isOutside = ({ left, right, width }) => width > 1 && (left < -0.5 || right > innerWidth + 0.5);
	const { scrollWidth } = document.documentElement;
	if (scrollWidth > innerWidth) found.push(`the page is ${scrollWidth} wide`);
	for (const element of document.querySelectorAll("body *")) {
		if (!isSeen(element) || element.closest(".visually-hidden, svg, #announcer")) continue;
		const isThing = element.matches("button, a, input, select, h1, p, .card");
		if (isThing && isOutside(element.getBoundingClientRect())) tell("outside", element);
		for (const node of element.childNodes) {
			if (node.nodeType !== Node.TEXT_NODE || element.closest("select, .round > span")) continue;
			const range = document.createRange();
			range.selectNodeContents(node);
			if ([...range.getClientRects()].some(isOutside) && !isCut(element)) tell("text outside", element);
		}
	}
	// What nobody scrolls to. Of several who ring, the first is seen, and the others by scrolling.
	const always = ["dialog .bar button", ".ringcard:first-child button", ".call .toolbar button"];
	const buttons = always.map((which) => [...document.querySelectorAll(which)]).find(({ length }) => length);
	for (const button of (buttons ?? []).filter(isSeen)) {
		const { left, top, width, height, bottom } = button.getBoundingClientRect();
		const there = document.elementFromPoint(left + width / 2, top + height / 2);
		if (top < 0 || bottom > innerHeight + 0.5) tell("off the screen", button);
		else if (!button.contains(there) && !there?.closest(".toast")) tell("covered", button);
	}
	return found;
}

// Of a call: tiles that are too small, or over another, or have parts that lie on each other.
function wrongWithTiles() {
	const found = [];
	const meet = (one, other) =>
		Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1 &&
		Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 1;
	const where = (element) => element.getBoundingClientRect();
	const tell = (what, tile) => found.push(`${what}: ${tile.outerHTML.replace(/<svg.*?svg>/g, "").slice(0, 700)}`);
	const tiles = [...document.querySelectorAll("figure.tile")];
	for (const tile of tiles) {
		const { width, height, bottom, right } = where(tile);
		if (Math.min(width, height) < 56) tell(`only ${width} x ${height}`, tile);
		if (bottom > where(tile.parentElement).bottom + 1 || right > innerWidth + 1) tell("outside", tile);
		if (tiles.some((other) => other !== tile && meet(where(tile), where(other)))) tell("on another", tile);
		const parts = [...tile.querySelectorAll("figcaption, .quality, .state, .why, .middle button, .avatar, .pin")].filter(
			(part) => part.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && where(part).width,
		);
		for (const part of parts) {
			const { left, right, top, bottom } = where(part);
			const box = where(tile);
			if (left < box.left || right > box.right + 0.5 || top < box.top || bottom > box.bottom + 0.5)
				tell(`${part.className || part.tagName} is cut`, tile);
			for (const other of parts)
				if (other !== part && meet(where(part), where(other)))
					tell(`${part.className || part.tagName} is on ${other.className || other.tagName}`, tile);
		}
		for (const avatar of tile.querySelectorAll(".avatar")) {
			const range = document.createRange();
			range.selectNodeContents(avatar);
			if (where(range).width > where(avatar).width) tell("letters outgrow their circle", tile);
		}
	}
	return found;
}

// Whether it is within its tile.
function wrongWithHint() {
	const [hint, tile] = [".hint", ".tile"].map((which) => document.querySelector(which).getBoundingClientRect());
	const isIn = hint.left >= tile.left && hint.right <= tile.right && hint.bottom <= tile.bottom && hint.width > 0;
	return isIn ? [] : [JSON.stringify([hint, tile])];
}

// Whether it has the form of what the camera gives, and leaves room.
function wrongWithPreview() {
	const video = document.querySelector(".preview video");
	const { width, height } = video.getBoundingClientRect();
	const isWhole = Math.abs(width / height - video.videoWidth / video.videoHeight) < 0.02;
	return isWhole && height <= innerHeight * 0.6 ? [] : [`${width} x ${height}`];
}

// So many members join a group, and its call.
async function crowdInto([id, names]) {
	const { PeerShare } = await import("/web/peershare.js");
	const join = async (name) => {
		const client = new PeerShare();
		client.open();
		await client.joinGroup(id, name);
		await client.joinCall({ audio: true, video: false, screen: false });
		return client;
	};
	window.crowd = await Promise.all(names.map(join));
}

// One small tile alone, of somebody who is connected.
async function showTile(more) {
	const { Tile } = await import("/web/tiles.js");
	const media = { audio: true, video: false, screen: false, speaking: false, stream: new MediaStream() };
	const view = { id: "x", name: "Bea", isMe: false, state: "connected", quality: null, ...media, ...more };
	const tile = new Tile(view, { route() {}, showDetails: (id) => (window.detailsOf = id) });
	document.querySelector("#app").replaceChildren(tile.element);
	tile.place({ x: 0, y: 0, width: 110, height: 62 }, false);
	tile.update(view);
}

Object.assign(window, { wrongOnScreen, wrongWithTiles, wrongWithHint, wrongWithPreview, crowdInto, showTile });
