// The page: which screen is shown, by the address and by the session in a group.

import { CallView } from "./call.js";
import { BASE, announce, byId, fill, h, isolate, stored, toast } from "./dom.js";
import { GroupSession } from "./group-session.js";
import { groupScreen } from "./group.js";
import { groupIdIn, landingScreen } from "./landing.js";
import { Devices } from "./media.js";
import { REFUSED, asyncHandler, errorMessage, loadingScreen } from "./notice.js";
import { RefusedError } from "./peershare.js";
import { prejoinScreen } from "./prejoin.js";
import { drawRings, endRings } from "./rings.js";
import { saveSession, savedSession } from "./saved-session.js";
import { SIGNED_OUT, isSignedOut, signIn } from "./sign-in.js";
import { otherTabNotice, publishSession } from "./tabs.js";

/** @import {GroupPreview, GroupSessionEvents, LandingOptions, Note, PrejoinOptions, SavedSession, Screen, SignInOver} from "./types" */

const GONE =
	"This group does not exist. It ended when its last member left, or the server was restarted. Make it again, under the same link:";
const NONE =
	"There is no such group: it has not been visited for long, or the link is not right. Make one under this link:";
const NO_LINK = "This is not a link to a group. Make a group, or paste the whole link:";
const JOIN_TIMEOUT = 15_000; // ms
const SIGN_IN_RETRY = 3_000; // ms

const root = byId("app");
const devices = new Devices();
const ownName = stored("localStorage", "peershare.name");
/** @type {Screen | null} */
let screen = null;
/** The session in the group that is shown. @type {GroupSession | null} */
let current = null;
/** True if the screen is the call's. @type {boolean | null} */
let showsCall = null;
let cameBackAt = -Infinity; // the last time that a sign-in was over, and another session began
let navigations = 0; // counts changes of the place, so that late answers for an earlier one are dropped

// --- screens ---

/** @param {Screen} next @param {string} title */
function show(next, title) {
	screen?.close?.();
	screen = next;
	fill(root, next.element);
	document.title = title;
	scrollTo(0, 0);
	next.focus?.focus({ preventScroll: true });
}

/** @param {string} [group] */
const titleOf = (group = "") => `${isolate(group)} · PeerShare`;

/** Show the screen for the address. */
function route() {
	navigations += 1;
	const { pathname } = location;
	const id = pathname.startsWith(`${BASE}group/`) ? groupIdIn(pathname) : null;
	const saved = id && savedSession(id);
	if (id && saved) resume(newSession(saved), id);
	else if (id) showPrejoin(id);
	else showLanding(pathname === BASE ? {} : { message: NO_LINK });
}

/** For the next time, unless it is an account's. @param {string} name */
const keepName = (name) => name && !signIn.account && ownName.set(name);

/** @param {Partial<LandingOptions>} [options] */
function showLanding(options = {}) {
	devices.close();
	history.replaceState(null, "", BASE);
	const landing = landingScreen({
		name: ownName.get() ?? "",
		create(group, name) {
			keepName(name);
			showPrejoinNew(group);
		},
		join(id, name) {
			keepName(name);
			history.pushState(null, "", `${BASE}group/${id}`);
			route();
		},
		...options,
	});
	show(landing, "PeerShare");
	if (options.message) announce(options.message);
}

// --- before joining ---

/** For a group to be created, under an ID that links have. @param {string} group @param {string} [id] @param {string} [about] */
function showPrejoinNew(group, id, about = "You are about to make this group.") {
	navigations += 1;
	const path = id ? `${BASE}group/${id}` : BASE;
	if (path !== location.pathname || !id) history.pushState(null, "", path);
	const preview = { title: group, about, isNew: true, hasCall: false };
	showPrejoinScreen(preview, (session, name) => session.createGroup(group, name, id));
}

/** For a group to be joined. @param {string} id @param {string} [group] its name, if it is known @param {string} [message] */
async function showPrejoin(id, group, message) {
	const navigation = navigations;
	show(loadingScreen("Looking for the group…"), "PeerShare");
	const [answer] = await Promise.all([fetch(`${BASE}api/group/${id}`).catch(() => null), signInKnown]);
	const info = answer?.ok ? await answer.json() : null;
	const isGone = answer?.status === 404;
	const limits = isGone || info?.inCall > 0 ? await getLimits() : {};
	if (navigation !== navigations) return;
	if (isGone) return showEnded(id, limits.groupTtlSeconds > 0, group);
	const isFull = info?.inCall > 0 && info.inCall >= (limits.callSize || Infinity); // 0 is no limit
	const takeOver = (/** @type {SavedSession} */ saved) => {
		saveSession(saved);
		route();
	};
	const preview = {
		title: info?.name ?? "A group",
		about: info
			? presence(info.memberCount, info.inCall, isFull)
			: "The server did not tell who is here. You can still join.",
		isNew: false,
		hasCall: info?.inCall > 0 && !isFull,
		isFull,
		message,
	};
	showPrejoinScreen(preview, (session, name) => session.joinGroup(id, name), otherTabNotice(id, takeOver));
}

/**
 * Offer to open a group again: at once where we were in it, and the server has forgotten it.
 * @param {string} id @param {boolean} isKept whether the server keeps groups: then there is none to be opened again
 * @param {string} [group] its name
 */
function showEnded(id, isKept, group) {
	const again = isKept ? undefined : "The group has ended. You are about to open it again.";
	if (group && again) return showPrejoinNew(group, id, again);
	showLanding({
		message: isKept ? NONE : GONE,
		create(name, username) {
			keepName(username);
			showPrejoinNew(name, id, again);
		},
	});
}

/** @returns {Promise<Record<string, number>>} nothing if the server does not tell */
async function getLimits() {
	const answer = await fetch(`${BASE}api/limits`).catch(() => null);
	return answer?.ok ? answer.json() : {};
}

/** @param {number} members @param {number} inCall @param {boolean} isFull */
function presence(members, inCall, isFull) {
	if (members === 0) return "Nobody is here at the moment.";
	const here = members === 1 ? "One person is here" : `${members} people are here`;
	if (!inCall) return `${here}.`;
	const full = isFull ? " It is full: you can see who is in it, and join when somebody leaves." : "";
	return `${here}, ${inCall === 1 ? "one" : inCall} in the call.${full}`;
}

/**
 * @param {GroupPreview} preview @param {(session: GroupSession, name: string) => Promise<void>} enter creates or joins the group
 * @param {{element: HTMLElement, close: () => void}} [notice] about other tabs
 */
function showPrejoinScreen(preview, enter, notice) {
	const navigation = navigations;
	/** @type {PrejoinOptions["join"]} */
	const join = async (name, { call }) => {
		keepName(name);
		const session = await startSession((next) => enter(next, name), call && (() => navigation === navigations));
		if (navigation === navigations) activate(session);
		else session.leave();
	};
	const next = prejoinScreen({ devices, name: ownName.get() ?? "", join, notice: notice?.element, ...preview });
	const close = () => {
		next.close();
		notice?.close();
	};
	show({ ...next, close }, titleOf(preview.title));
}

/**
 * A session that has entered its group, and its call if `joinsCall` says so then. Rejects with a message for the user.
 * @param {(session: GroupSession) => Promise<void>} enter @param {false | (() => boolean)} joinsCall
 */
async function startSession(enter, joinsCall) {
	const session = newSession();
	let reason = ""; // the server's own, if it ends the session
	session.addEventListener("ended", ({ detail }) => {
		reason = detail.text;
		if (detail.signInOver) signIn.renew().catch(() => {}); // so that the page shows it, and the next attempt is right
	});
	try {
		await orTimeout(session, enter(session));
		if (joinsCall && joinsCall()) await session.joinCall();
	} catch (error) {
		if (!session.group) {
			session.leave();
			const mayHelp = error instanceof RefusedError && error.code === "NOT_PERMITTED" && signIn.isOffered;
			throw new Error(reason || `${errorMessage(error)}${mayHelp ? " Sign in, and try again." : ""}`);
		}
		toast(errorMessage(error), "bad"); // it is in the group, but not in its call
	}
	return session;
}

/** @template T @param {GroupSession} session @param {Promise<T>} action @returns {Promise<T>} */
function orTimeout({ client }, action) {
	const failure = new Promise((_, reject) => {
		const timer = setTimeout(
			() => reject(new Error("The server does not answer. Try again in a moment.")),
			JOIN_TIMEOUT,
		);
		client.addEventListener("lobby", () => clearTimeout(timer));
		client.addEventListener("state", () => client.isRefused && reject(new Error(REFUSED)));
	});
	return /** @type {Promise<T>} */ (Promise.race([action, failure]));
}

// --- in a group ---

/** @param {SavedSession} [saved] */
function newSession(saved) {
	const session = new GroupSession(devices, saved);
	session.addEventListener("note", showNote);
	return session;
}

/** @param {CustomEvent<Note>} event */
function showNote({ detail: { text, kind } }) {
	if (kind === "quiet") announce(text);
	else toast(text, kind);
}

/** After a reload, wait until the session is back. @param {GroupSession} session @param {string} id */
function resume(session, id) {
	const navigation = navigations;
	show(loadingScreen("Coming back…", session), "PeerShare");
	const settle = () => {
		if (navigation !== navigations) session.leave();
		else if (session.group) activate(session);
		else return;
		session.removeEventListener("change", settle);
	};
	session.addEventListener("change", settle);
	session.addEventListener("ended", ({ detail: { signInOver } }) => {
		if (current === session || navigation !== navigations) return;
		session.leave();
		if (signInOver) comeBack(signInOver);
		else showPrejoin(id, session.lastGroup?.name);
	});
}

/** Show this session from now on. @param {GroupSession} session */
function activate(session) {
	current = session;
	showsCall = null;
	if (!session.isInCall) devices.close(); // until there is a call
	session.addEventListener("change", () => draw(session));
	session.addEventListener("ended", ({ detail }) => handleEnded(detail));
	draw(session);
	announce(`You are in ${isolate(session.lastGroup?.name ?? "")}.`);
}

/** @param {GroupSession} session */
function draw(session) {
	if (current !== session) return;
	const path = session.group && `${BASE}group/${session.group.id}`;
	if (path && path !== location.pathname) history.replaceState(history.state, "", path); // browsers limit how often
	const { isInCall } = session;
	if (isInCall !== showsCall) guardBackButton(isInCall);
	if (showsCall === isInCall) screen?.update?.();
	else if (isInCall) show(new CallView(session, { leaveCall: () => leaveCall(session) }), "");
	else show(groupScreen(session, { leave: () => leaveToLanding() }), "");
	showsCall = isInCall;
	drawRings(session);
	publishSession(session);
	const [ring] = session.client.call.incoming.values();
	document.title = ring ? `${isolate(ring.username)} is calling` : titleOf(session.lastGroup?.name);
}

/** @param {GroupSession} session */
const leaveCall = (session) => session.leaveCall().catch(() => {}); // the call has ended already

/** @param {GroupSessionEvents["ended"]} detail */
function handleEnded({ text, canRetry, signInOver }) {
	if (signInOver) {
		leaveGroup();
		return comeBack(signInOver);
	}
	if (!canRetry) return leaveToLanding(text);
	leaveGroup();
	toast(text, "bad");
	route();
}

/** Come back by a newer token; if there is none, say so, and let the user choose. @param {SignInOver} over */
async function comeBack({ saved }) {
	const navigation = navigations;
	show(loadingScreen("Coming back…"), "PeerShare");
	let isOver = performance.now() - cameBackAt < JOIN_TIMEOUT; // the server does not take the newer one either
	cameBackAt = performance.now();
	while (!isOver && navigation === navigations) {
		const error = await signIn.renew().then(
			() => null,
			(reason) => reason,
		);
		if (!error) break;
		isOver = isSignedOut(error);
		if (!isOver) await new Promise((resolve) => setTimeout(resolve, SIGN_IN_RETRY));
	}
	if (navigation !== navigations) return;
	if (isOver) signIn.clear();
	else if (saved) saveSession(saved);
	const id = groupIdIn(location.pathname);
	if (!isOver) route();
	else if (id) showPrejoin(id, undefined, SIGNED_OUT);
	else showLanding({ message: SIGNED_OUT });
}

/** @param {string} [message] the reason, where it is not the user's wish */
function leaveToLanding(message) {
	const group = current?.lastGroup?.name;
	leaveGroup();
	history.pushState(null, "", BASE);
	showLanding(message ? { message } : { group });
}

/** Leave the current group, if there is one. */
function leaveGroup() {
	navigations += 1;
	const session = current;
	current = null; // and so nothing of it is drawn any more
	publishSession(null);
	session?.leave();
	endRings();
}

// --- the browser's back button ---

let isRemovingGuard = false; // the call's history entry

/**
 * Keep one more entry in the browser's history during a call, so that its back button leads out of the call, after a
 * question, and not out of the page.
 * @param {boolean} isInCall
 */
function guardBackButton(isInCall) {
	if (isRemovingGuard) return;
	const isGuarded = history.state?.inCall === true; // also after a reload
	if (isInCall && !isGuarded) history.pushState({ inCall: true }, "", location.href);
	if (isInCall || !isGuarded) return;
	closeDialog();
	isRemovingGuard = true;
	history.back();
}

const closeDialog = () => document.querySelector("dialog")?.close();

/** @param {GroupSession} session */
function askToLeaveCall(session) {
	const dialog = h(
		"dialog",
		{ class: "leave", "aria-labelledby": "leave-title" },
		h("h2", { id: "leave-title" }, "Leave the call?"),
		h(
			"form",
			{ method: "dialog", class: "choices" },
			h("button", { class: "primary", value: "stay" }, "Stay"),
			h("button", { class: "danger", value: "leave" }, "Leave the call"),
		),
	);
	dialog.addEventListener("close", () => {
		dialog.remove();
		if (current !== session || !session.isInCall) return;
		if (dialog.returnValue === "leave") leaveCall(session);
		else guardBackButton(true);
	});
	document.body.append(dialog);
	dialog.showModal();
}

addEventListener("popstate", () => {
	if (isRemovingGuard) {
		isRemovingGuard = false;
		return guardBackButton(current?.isInCall ?? false); // another call may have begun meanwhile
	}
	if (current && location.pathname.endsWith(current.lastGroup?.id ?? " ")) {
		if (current.isInCall && !history.state?.inCall) askToLeaveCall(current);
		return;
	}
	// The back button led away from the group.
	closeDialog();
	leaveGroup();
	route();
});
/** Say why a sign-in elsewhere has failed, from which the browser comes back. @param {string} word */
async function showSignInFailure(word) {
	const navigation = navigations;
	const answer = await fetch(`${BASE}api/auth/providers`).catch(() => null);
	const failures = answer?.ok ? (await answer.json()).failures : {};
	const text = Object.hasOwn(failures, word) ? failures[word] : "You are not signed in. Try again.";
	if (location.pathname === BASE && navigation === navigations) showLanding({ message: text });
	else toast(text, "bad");
}

devices.addEventListener("note", showNote);
signIn.addEventListener("change", () => screen?.update?.());
// A page from the back/forward cache has lost its connections.
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
// Not the text, which a stranger's link could have: its name.
const [, kind, word] = /^#(sign-in|confirm|reset)=([\w-]+)$/.exec(location.hash) ?? [];
if (kind) history.replaceState(history.state, "", location.pathname);
const signInKnown = signIn.start();
route();
if (kind === "sign-in") showSignInFailure(word);
else if (kind) asyncHandler(async () => (await import("./account.js")).followLink(kind, word))();
dispatchEvent(new Event("started")); // index.html waits for it
