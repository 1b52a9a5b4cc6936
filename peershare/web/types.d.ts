// The types that the modules share, for readers and for TypeScript, which checks them (`nox -s web`). No browser loads
// this file. The protocol's own types are generated: protocol.d.ts.

import type { GroupSession } from "./group-session.js";
import type { field } from "./landing.js";
import type { Devices } from "./media.js";
import type { Mesh } from "./mesh.js";
import type { Peer } from "./peer.js";
import type { PeerShare } from "./peershare.js";
import type { ClientMessages, GroupSettings, LinkReason, Participant, PeerPlan, Resume, Ring, RingEnded, ServerMessages, User } from "./protocol.js";

export type Timer = ReturnType<typeof setTimeout>;
export type { Devices, GroupSession, Mesh, Peer, PeerShare };

// --- peershare.js; the messages themselves are in protocol.d.ts ---

export type * from "./protocol.js";

export type State = "connecting" | "online" | "reconnecting" | "closed";
export type Media = Omit<Participant, "userId">;
export type RingPair = Pick<Ring, "from" | "to">;

export type Member = User;
/** `settings`: none where all are as a new group has them. */
export type Group = { id: string; name: string; me: Member; members: Map<string, Member>; settings?: GroupSettings };

export type Call = {
	participants: Map<string, Participant>;
	incoming: Map<string, Ring & { username: string }>;
	outgoing: Map<string, Ring>;
	recent: RingEnded[];
};

/** A JSON Web Token, or what fetches one (docs/accounts.md). */
export type Token = string | (() => string | Promise<string>);

/** The state of a session for the time after a reload. */
export type Saved = Omit<Resume, "received"> & { groupId?: string; groupName?: string; username?: string };

/** The payloads of answers that are read. */
export type Answers = { "join-call": ServerMessages["call-joined"]; ring: ServerMessages["ringing"] };

/** Enough to make an RTCConfiguration of. */
export type IceServers = ServerMessages["ice-servers"];

/** What the server counts: how a connection with another participant has become. */
export type LinkReport = ClientMessages["link-report"];

/** A message of ours, as it was or will be written, and a request, which waits for its answer. */
export type SentMessage = { text: string };
/** Where a `join-group` waits to be let in. */
export type Lobby = {
	wanted: ClientMessages["join-group"];
	resolve: (value?: any) => void;
	reject: (error: Error) => void;
};
export type PendingRequest = { message: SentMessage; resolve: (answer: any) => void; reject: (error: Error) => void };

export type Events = {
	change: {};
	state: { state: State };
	resumed: { recovered: boolean };
	draining: { reconnectInMs: number };
	"session-lost": { groupId?: string; groupName?: string };
	closed: { code: number; reason: string };
	"member-joined": { member: Member };
	"member-left": { member: Member; reason: string };
	"member-status": { member: Member };
	"member-role": { member: Member };
	/** We wait to be let in, or our place has changed. */
	lobby: ServerMessages["lobby-waiting"];
	/** A moderator has removed us, or the group was ended. */
	removed: ServerMessages["kicked"] | ServerMessages["group-ended"];
	"participant-joined": { participant: Participant };
	"participant-left": { userId: string };
	"participant-media": { participant: Participant };
	"call-ended": ServerMessages["call-ended"];
	"stop-requested": ServerMessages["stop-requested"];
	ring: ServerMessages["incoming-ring"];
	"ring-ended": RingEnded;
	signal: ServerMessages["signal"];
	"mesh-plan": ServerMessages["mesh-plan"];
	"ice-servers": IceServers;
	"token-expiring": ServerMessages["token-expiring"];
	/** This machine has another network, or one again. */
	"network-change": {};
};

/** An EventTarget with types for the `detail` of its events. */
export type Target<M> = {
	addEventListener<K extends keyof M>(
		type: K,
		listener: (event: CustomEvent<M[K]>) => void,
		options?: AddEventListenerOptions | boolean,
	): void;
} & EventTarget;

// --- safety-code.js ---

/** Of the certificates of one connection, in hex. */
export type Fingerprints = { local: string; remote: string };
export type SafetyMessage = { commitment: string } | { nonce: string } | { reveal: string };
export type SafetyState = "waiting" | "ready" | "failed";
/**
 * `insecure`: a page without https has no cryptography; `often`: there were too many exchanges; `unclear`: which certificate
 * the other side has; `silent`: it did not answer in time; `wrong`: it broke the protocol; `changed`: it has another
 * certificate now.
 */
export type SafetyFault = "insecure" | "often" | "unclear" | "silent" | "wrong" | "changed";
export type SafetyEmoji = { picture: string; name: string };

// --- connection.js, peer.js, mesh.js ---

export type Kind = "audio" | "video";
export type Track = MediaStreamTrack | null;
export type Tracks = { audio: Track; video: Track };
export type PeerState = "connecting" | "connected" | "reconnecting" | "failed";

/** Between the connections of two pages: docs/web-client.md, "How it is built". */
export type Signal = {
	instance: string;
	to: string | null;
	description?: RTCSessionDescriptionInit;
	candidates?: RTCIceCandidateInit[];
	/** To ask for an offer that restarts ICE. */
	restart?: boolean;
	/** By the sender's browser. */
	gathered?: Gathered;
};

/** `roundTrip` in s, `loss` from 0 to 1, `bitrate` received, in bit/s. */
export type Quality = {
	level: "good" | "fair" | "poor" | "unknown";
	roundTrip: number;
	loss: number;
	bitrate: number;
	framesDecoded: number;
	resolution: string;
};

type RelayProtocol = "udp" | "tcp" | "tls";

// What TypeScript does not know, and not every browser has.
declare global {
	interface RTCIceCandidate {
		readonly relayProtocol?: RelayProtocol | null;
		readonly url?: string | null;
	}
	interface Navigator {
		readonly connection?: EventTarget & { readonly type?: string };
	}
}

/** A kind of candidates (RFC 8445, section 4). `relayProtocol`: of one's own, from the browser to its TURN server. */
export type CandidateKind = {
	type: RTCIceCandidateType;
	protocol: RTCIceProtocol;
	relayProtocol?: RelayProtocol;
};
export type CandidatePair = { local: CandidateKind; remote: CandidateKind };

/** What is known of the way to a peer. */
export type Path = {
	/** The one that carries the media, as soon as it is connected. */
	selected: CandidatePair | null;
	isRelayOnly: boolean;
	/** The last step of the recovery, and how many there were since it was connected. */
	action: RecoveryStep["action"] | null;
	attempts: number;
};

/** recovery.js */
export type RecoveryStep = { action: "restart" | "renew" | "relay"; wait: number; hasFailed?: boolean };

// --- sending.js ---

/** What is planned for one peer. */
export type Part = Pick<PeerPlan, "video" | "maxVideoHeight" | "maxBitrate">;
/** What a connection takes and what it should, in bit/s, and the share of audio packets that were lost. */
export type LinkMeasure = { available: number; wanted: number; loss: number };
/** Of audio, from 0 to 1: the `last` that was reported, `at` a time, and the `share` that counts. */
export type Loss = { at: number; last: number; share: number };
/**
 * Video to one peer. `weak` and `good`: seconds without a break; `wait`: of these, until it is tried again; `trial`: seconds in
 * which what the link takes is not known yet.
 */
export type Link = { isPaused: boolean; weak: number; good: number; wait: number; trial: number };
/** What our line takes for all, in bit/s. */
export type Line = { upload: number | undefined; weak: number; good: number; wait: number };

export type MeshEvents = {
	peer: { peer: Peer };
	"peer-left": { userId: string };
	/** A new connection takes messages. */
	open: { userId: string };
	stats: {};
	message: { from: string; data: any };
	/** There is a safety code, or there is none any more. */
	safety: { userId: string };
};

// --- diagnosis.js, gathering.js ---

/** By which a browser is reached: its own address, one that STUN tells, or a relay, which it reaches by UDP, TCP, or TCP on a port of the web. */
export type Way = "host" | "stun" | "turn/udp" | "turn/tcp" | "turn/web";

/** What became of each: "waiting", "found", or the code of the last error (W3C webrtc-pc, 4.8.3; RFC 8656, 19). */
export type Gathered = Partial<Record<Way, string>>;

/** What is known of a pair: since it was connected, or tried again. */
export type Facts = {
	/** False where the browser says that it is offline. */
	isOnline: boolean;
	/** Who has no connection to the server. */
	lost: Side | false;
	/** True if a signal has come from the other side. */
	isAnswered: boolean;
	/** True if a description of the other side was taken. */
	isNegotiated: boolean;
	/** True if a path was found, but nothing more came of it. */
	hasPath: boolean;
	/** True if it is connected by a relay. */
	isRelayed: boolean;
	mine: Gathered;
	/** None of a page that does not tell. */
	theirs: Gathered | null;
};

/** Who has the trouble. */
export type Side = "you" | "them" | "both";
/** A report may have another reason: of one that is connected, nothing is to be said. */
export type DiagnosisReason = Exclude<LinkReason, "no-picture">;
export type Diagnosis = { reason: DiagnosisReason; side: Side };

// --- the page ---

export type DeviceName = "camera" | "microphone" | "speaker";
/** IDs of devices; `before`: those that were chosen earlier, the latest first. */
export type Choice = Record<DeviceName, string> & {
	muted: boolean;
	cameraOff: boolean;
	before: Partial<Record<DeviceName, string[]>>;
};
export type DeviceEvents = { change: {}; note: Note };
/** A message to the user; `quiet` ones are visible elsewhere, and only announced. */
export type Note = { text: string; kind: "" | "bad" | "quiet" };
export type GroupRef = { id: string; name: string };
/** A page's message to another over their data channel; the mesh has a goodbye of its own. */
export type PeerMessage = { media?: Media; as?: string };
/** Of whose user nobody is signed in any more, as far as the server knows; to come back by a newer token. */
export type SignInOver = { saved: SavedSession | null };
export type SavedSession = { session: Saved; inCall: boolean };
export type GroupSessionEvents = {
	change: {};
	/** Only quality or voices of the peers have changed. */
	stats: {};
	note: Note;
	/** The session has ended, and not by us. `canRetry`: joining again may work. */
	ended: { text: string; canRetry: boolean; signInOver?: SignInOver };
};
/** Between the tabs of a browser. */
export type TabMessage = {
	/** A group: who has it open? */
	ask?: string;
	/** This group is open in `tab`, as the member `userId`. */
	here?: string;
	tab?: string;
	userId?: string;
	name?: string;
	/** The tab that has none open any more. */
	gone?: string;
	/** The tab `by` wants to take over from this one, and is `given` its saved session. */
	take?: string;
	by?: string;
	given?: string;
	saved?: SavedSession;
};
/** `countdown`: the part that changes each second. */
export type Notice = { text: string; countdown?: string; label?: string; act?: () => void };

// --- the check ---

export type CheckState = "good" | "unsure" | "bad" | "running";
export type CheckRow = { name: string; state: CheckState; text: string };
/**
 * `outcome`: "" until it is known. A TURN server has `allocated` where it gave a relay, and nothing passed. `code`: of the
 * browser's last error, or 0. `roundTrip` in ms.
 */
export type CheckedServer = {
	url: string;
	outcome: "" | "works" | "allocated" | "fails";
	code: number;
	roundTrip?: number;
};
/**
 * `camera` and `microphone`: "works", "silent" if it gives nothing, "unanswered" if no permission was given or refused, or
 * the name of a fault. `serversError`: why `servers` are not known.
 */
export type CheckResults = {
	browser: "works" | "NoWebRTC" | "Insecure";
	camera: string;
	microphone: string;
	session: "works" | "refused" | "blocked" | "away" | "ended";
	servers: CheckedServer[];
	serversError?: string;
	isRelayOnly: boolean;
};

// --- sign-in.js, account.js; the answers are in docs/accounts.md ---

export type About = { accounts: boolean; registration: string; mail?: boolean };
export type Account = {
	id: string;
	username: string;
	email: string | null;
	emailConfirmed: boolean;
	hasPassword: boolean;
};
export type SignedIn = { account: Account; accessToken: string };
export type AccountDevice = { id: string; name: string; seenAt: number; isCurrent: boolean };
export type OwnGroup = { id: string; name: string; isOwner: boolean; visitedAt: number };
/** `missing`: what is said where it is empty; nothing where it may be. */
export type FormField = ReturnType<typeof field> & { name: string; missing: string };

// --- dom.js ---

export type Child = Node | string | null | undefined | false;
export type Properties = Record<string, unknown>;
/** An element of a list. */
export type Row<T> = { element: HTMLElement; update: (item: T) => void };

// --- the screens ---

/** A screen for `app.js` to show. `focus` has the focus first. */
export type Screen = { element: HTMLElement; focus?: HTMLElement; update?: () => void; close?: () => void };

/** The content of a tile. */
export type TileView = Media & {
	id: string;
	name: string;
	/** The name for the avatar, if it is another. */
	avatarName?: string;
	isMe: boolean;
	/** True if it is oneself, in another tab of this browser. */
	isOtherTab?: boolean;
	stream: MediaStream | null;
	speaking: boolean;
	/** True if its video is paused, since its connection is weak. */
	isPaused?: boolean;
	state: PeerState | "ringing";
	/** True if the user has compared the safety code. */
	verified?: boolean;
	/** What is being tried, or why there is no connection. */
	status?: string;
	quality: Quality | null;
};
export type Rect = { x: number; y: number; width: number; height: number };

export type TileActions = {
	pin: (id: string) => void;
	retry: (id: string) => void;
	showDetails: (id: string) => void;
	/** Send the sound to the chosen speaker. */
	route: (element: HTMLMediaElement) => void;
	/** The browser does not play by itself. */
	onBlocked: () => void;
};

export type CallActions = {
	leaveCall: () => void;
	togglePanel: () => void;
	togglePictureInPicture: () => Promise<void>;
};

/** A group before it is joined. */
export type GroupPreview = {
	title: string;
	about: string;
	/** True if it is to be created. */
	isNew: boolean;
	/** True if there is a call to join. */
	hasCall: boolean;
	/** True if there is a call, and it is full. */
	isFull?: boolean;
};
export type PrejoinOptions = GroupPreview & {
	devices: Devices;
	/** The user's name. */
	name: string;
	/** Shown at the top. */
	notice?: HTMLElement | null;
	/** What has happened, if something has. */
	message?: string;
	/** Rejects with a message for the user. */
	join: (name: string, options: { call: boolean }) => Promise<void>;
};

export type LandingOptions = {
	name: string;
	group?: string;
	create: (group: string, name: string) => void;
	join: (id: string, name: string) => void;
	message?: string;
};
