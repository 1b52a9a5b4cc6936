// The shapes that the modules talk in, for whoever reads them, and for TypeScript, which checks them (`nox -s web`).
// No browser loads this file.

import type { Devices } from "./media.js";
import type { Mesh, Peer } from "./mesh.js";
import type { PeerShare } from "./peershare.js";
import type { Participant, Resume, Ring, RingEnded, ServerMessages, User } from "./protocol.js";
import type { Room } from "./room.js";

export type Timer = ReturnType<typeof setTimeout>;
export type { Devices, Mesh, Peer, PeerShare, Room };

// --- peershare.js; the messages themselves are in protocol.d.ts ---

export type * from "./protocol.js";

export type State = "connecting" | "online" | "reconnecting" | "closed";
export type Media = Omit<Participant, "userId">;
export type RingPair = Pick<Ring, "from" | "to">;

export type Member = User;
export type Group = { id: string; name: string; me: Member; members: Map<string, Member> };

export type Call = {
	participants: Map<string, Participant>;
	incoming: Map<string, Ring & { username: string }>;
	outgoing: Map<string, Ring>;
	recent: RingEnded[];
};

/** The state of a session for the time after a reload. */
export type Saved = Omit<Resume, "received"> & { groupId?: string; groupName?: string; username?: string };

/** The payloads of answers that are read. */
export type Answers = { "join-call": ServerMessages["call-joined"]; ring: ServerMessages["ringing"] };

/** A message of ours, as it was or will be written, and a request, which waits for its answer. */
export type SentMessage = { text: string };
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
	"participant-joined": { participant: Participant };
	"participant-left": { userId: string };
	"participant-media": { participant: Participant };
	ring: ServerMessages["incoming-ring"];
	"ring-ended": RingEnded;
	signal: ServerMessages["signal"];
};

/** An EventTarget that knows the `detail` of its events. */
export type Target<M> = {
	addEventListener<K extends keyof M>(
		type: K,
		listener: (event: CustomEvent<M[K]>) => void,
		options?: AddEventListenerOptions | boolean,
	): void;
} & EventTarget;

// --- mesh.js ---

export type Kind = "audio" | "video";
export type Track = MediaStreamTrack | null;
export type Tracks = { audio: Track; video: Track };
export type PeerState = "connecting" | "connected" | "reconnecting" | "failed";

/** Between the connections of two pages; docs/web-client.md, "How it is built". */
export type Signal = {
	instance: string;
	to: string | null;
	description?: RTCSessionDescriptionInit;
	candidates?: RTCIceCandidateInit[];
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

export type MeshEvents = {
	peer: { peer: Peer };
	"peer-left": { userId: string };
	/** Messages can be sent there: to each new connection. */
	open: { userId: string };
	stats: {};
	message: { from: string; data: any };
};

// --- the page ---

export type What = "camera" | "microphone" | "speaker";
/** IDs of devices; `before`: those that were chosen earlier, the latest first. */
export type Choice = Record<What, string> & {
	muted: boolean;
	cameraOff: boolean;
	before: Partial<Record<What, string[]>>;
};
export type DeviceEvents = { change: {}; note: Note };
export type Note = { text: string; kind: "" | "bad" | "quiet" };
export type Place = { id: string; name: string };
/** What a page may tell another over their data channel; the mesh's goodbye is not among it. */
export type Told = { media?: Media; as?: string };
export type SavedStay = { session: Saved; inCall: boolean };
/** `note`: to be told once; `quiet`, where it can be seen as well. `over`: the stay has ended, and not by us; `again`, where one may try anew. */
export type RoomEvents = {
	change: {};
	/** Only how the peers are has changed. */
	stats: {};
	note: Note;
	over: { text: string; again: boolean };
};
/** Between tabs: of a group, of the tab that has it open, and of the one that would take over. */
export type TabMessage = {
	/** Who has this group open? */
	ask?: string;
	/** This one is open in `tab`, as that member. */
	here?: string;
	tab?: string;
	userId?: string;
	name?: string;
	/** No more in this one. */
	gone?: string;
	/** Let the tab `by` have it, who is then `given` what a reload would have. */
	take?: string;
	by?: string;
	given?: string;
	saved?: SavedStay;
};
/** `when`: what changes each second. */
export type Notice = { text: string; when?: string; label?: string; act?: () => void };

// --- dom.js ---

export type Child = Node | string | null | undefined | false;
export type Properties = Record<string, unknown>;
/** An element of a list, and how it is brought up to date. */
export type Row<T> = { element: HTMLElement; update: (item: T) => void };

// --- the screens ---

/** What `app.js` shows. `focus` has the focus first. */
export type Screen = { element: HTMLElement; focus?: HTMLElement; update?: () => void; close?: () => void };

/** What a tile shows. */
export type View = Media & {
	id: string;
	name: string;
	/** Whose avatar it has, if it is not the name's. */
	face?: string;
	isMe: boolean;
	/** Whether it is oneself, in another tab of this browser. */
	isTwin?: boolean;
	stream: MediaStream | null;
	speaking: boolean;
	state: PeerState | "ringing";
	quality: Quality | null;
};
export type Rect = { x: number; y: number; width: number; height: number };

export type TileActions = {
	pin: (id: string) => void;
	retry: (id: string) => void;
	route: (element: HTMLMediaElement) => void;
	/** The browser does not play by itself. */
	blocked: () => void;
};

export type CallActions = { leaveCall: () => void; togglePanel: () => void; pip: () => Promise<void> };

/** The group that one is about to enter. */
export type Door = {
	/** Its name. */
	title: string;
	/** Who is there. */
	about: string;
	/** Whether it is only to be made. */
	isNew: boolean;
	/** Whether a call runs in it that one can join. */
	hasCall: boolean;
	/** Whether one runs that nobody else can join. */
	isFull?: boolean;
};
export type LobbyOptions = Door & {
	devices: Devices;
	/** One's own. */
	name: string;
	/** Above all. */
	notice?: HTMLElement | null;
	/** Fails with a sentence. */
	join: (name: string, options: { call: boolean }) => Promise<void>;
};

export type LandingOptions = {
	name: string;
	group?: string;
	create: (group: string, name: string) => void;
	join: (id: string, name: string) => void;
	message?: string;
};
