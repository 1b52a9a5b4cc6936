// Generated from peershare/messages: `nox -s docs` writes it anew.

export declare const PROTOCOL_VERSION: 2;

export declare const CloseCode: {
	readonly CLOSED: 1000;
	readonly GOING_AWAY: 1001;
	readonly PROTOCOL_ERROR: 1002;
	readonly LOST: 1006;
	readonly NOT_UTF8: 1007;
	readonly TOO_BIG: 1009;
	readonly FAULT: 1011;
	readonly DRAINING: 4000;
	readonly TOO_SLOW: 4008;
	readonly STALLED: 4010;
	readonly HEARTBEAT_LOST: 4009;
	readonly FULL: 4013;
	readonly FLOODING: 4029;
	readonly NOT_ADMITTED: 4500;
	readonly TOKEN_OVER: 4500;
	readonly SIGNED_OUT: 4500;
	readonly TAKEN_OVER: 4506;
};

export declare const RECONNECT_CODES: Set<number>;

export declare const OWN_RECONNECT_CODES: { readonly first: number; readonly last: number };

export type Role = "owner" | "moderator" | "member" | "guest" | "observer";
export declare const ROLES: Role[];
export declare const LOWEST_ROLE: { readonly [action in "call" | "chat" | "share" | "invite" | "moderate" | "record" | "manage"]: Role };

/** The codes of `error` messages: docs/protocol.md, "Errors". */
export type ErrorCode = "INVALID_MESSAGE" | "GROUP_NOT_FOUND" | "USER_NOT_FOUND" | "PEER_NOT_FOUND" | "PEER_ID_TAKEN" | "NOT_IN_GROUP" | "NOT_IN_CALL" | "CALL_FULL" | "ALREADY_IN_CALL" | "RING_NOT_FOUND" | "RATE_LIMITED" | "SESSION_NOT_FOUND" | "TRY_AGAIN" | "TOKEN_INVALID" | "NOT_PERMITTED" | "LAST_OWNER" | "GROUP_LOCKED" | "BANNED" | "LOBBY" | "LOBBY_FULL" | "PASSCODE_NEEDED" | "WRONG_PASSCODE" | "TOO_MANY_ROLES" | "KICKED" | "GROUP_ENDED" | "CONNECTION_ERROR" | "USERNAME_TAKEN" | "INVALID_GROUP_NAME" | "INVALID_USERNAME";

export type LinkReason = "udp-blocked" | "udp-blocked-no-relay" | "peer-udp-blocked-no-relay" | "no-relay" | "relay-unreachable" | "relay-refused" | "relay-silent" | "web-only" | "no-candidates" | "peer-silent" | "signaling-lost" | "dtls-failed" | "network-changed" | "browser-refused" | "no-picture" | "unknown";
export type User = { id: string; username: string; peerId?: string; status?: "away"; until?: number; canCall?: boolean; verified?: boolean; role?: "owner" | "moderator" | "member" | "guest" | "observer" };
export type Peer = { peerId: string; username: string };
export type Heartbeat = { intervalMs: number; timeoutMs: number };
export type Participant = { userId: string; audio: boolean; video: boolean; screen: boolean };
export type Ring = { from: string; to: string; until: number };
export type RingEnded = { from: string; to: string; outcome: "accepted" | "declined" | "missed" | "cancelled"; endedAt: number };
export type PeerPlan = { userId: string; offerer: boolean; polite: boolean; maxVideoHeight: number; maxBitrate: number; video: boolean };
export type GroupSettings = { locked?: boolean; autolock?: boolean; maxMembers?: number; whoMayCall?: "owner" | "moderator" | "member" | "guest" | "observer"; whoMayShare?: "owner" | "moderator" | "member" | "guest" | "observer"; hasPasscode?: boolean; lobby?: boolean };
export type Ban = { userId: string; username: string; until: number; reason?: string };
export type Knocker = { userId: string; username: string; verified?: boolean };
export type IceServer = { urls: string[]; username?: string; credential?: string };
export type Resume = { sessionId: string; resumeToken: string; received: number };
export type View = { userId: string; height: number };

/** The payloads of what a client sends, by type. */
export type ClientMessages = {
	"create-group": { groupName: string; username: string; groupId?: string };
	"join-group": { groupId: string; username: string; peerId?: string; passcode?: string };
	"leave-group": { userId: string };
	"update-peer-id": { peerId: string };
	"call-request": { targetPeerId: string; fromPeerId: string; fromUsername: string };
	"call-response": { accepted: boolean; fromPeerId: string; toPeerId: string };
	"signal": { to: string; data: any };
	"ping": {};
	"hello": { protocol: 2; resume?: Resume; token?: string };
	"ack": { received: number };
	"client-state": { visibility: "foreground" | "background" };
	"auth-refresh": { token: string };
	"join-call": { audio: boolean; video: boolean; screen?: boolean };
	"leave-call": {};
	"update-media": { audio: boolean; video: boolean; screen: boolean };
	"ring": { to?: string };
	"decline-ring": { from: string };
	"update-layout": { views: View[]; maxUpload?: number };
	"member-role-set": { userId: string; role: "owner" | "moderator" | "member" | "guest" | "observer" };
	"group-update": { name?: string; locked?: boolean; autolock?: boolean; maxMembers?: number; whoMayCall?: "owner" | "moderator" | "member" | "guest" | "observer"; whoMayShare?: "owner" | "moderator" | "member" | "guest" | "observer"; passcode?: string; lobby?: boolean };
	"member-kick": { userId: string; reason?: string; banSeconds?: number };
	"mute-member": { userId: string };
	"stop-video": { userId: string };
	"stop-screen": { userId: string };
	"ban-list": {};
	"ban-lift": { userId: string };
	"end-call": {};
	"end-group": {};
	"lobby-admit": { userId: string };
	"lobby-deny": { userId: string };
	"lobby-leave": {};
	"get-ice-servers": {};
	"link-report": { userId: string; state: "connected" | "reconnecting" | "failed"; localType: "host" | "srflx" | "prflx" | "relay" | "none"; remoteType: "host" | "srflx" | "prflx" | "relay" | "none"; protocol: "udp" | "tcp" | "tls" | "none"; rttMs?: number; lossPercent?: number; reason?: "udp-blocked" | "udp-blocked-no-relay" | "peer-udp-blocked-no-relay" | "no-relay" | "relay-unreachable" | "relay-refused" | "relay-silent" | "web-only" | "no-candidates" | "peer-silent" | "signaling-lost" | "dtls-failed" | "network-changed" | "browser-refused" | "no-picture" | "unknown" };
};

/** The payloads of what the server sends, by type. */
export type ServerMessages = {
	"connection-established": { userId: string };
	"pong": {};
	"server-draining": { reconnectInMs: number };
	"group-created": { groupId: string; groupName: string; user: User };
	"group-joined": { groupId: string; groupName: string; user: User; members: User[]; settings?: GroupSettings };
	"group-left": { groupId: string };
	"user-joined": { user: User };
	"user-left": { userId: string; username: string; reason: "left" | "disconnected" | "timeout" | "kicked" | "ended" };
	"existing-peers": { peers: Peer[] };
	"peer-joined": { peerId: string; username: string };
	"peer-id-updated": { peerId: string };
	"incoming-call-request": { fromPeerId: string; fromUsername: string };
	"call-response": { accepted: boolean; fromPeerId: string; toPeerId: string };
	"signal": { from: string; data: any };
	"welcome": { protocol: 2; sessionId: string; resumeToken: string; graceSeconds: number; heartbeat: Heartbeat; limits: Record<string, number>; principalToken?: string };
	"resumed": { recovered: boolean; received: number; userId: string; groupId?: string };
	"member-status": { userId: string; status: "away" | "online"; until?: number };
	"token-expiring": { expiresAt: number };
	"auth-refreshed": { expiresAt: number };
	"call-joined": { participants: Participant[] };
	"call-left": {};
	"participant-joined": { participant: Participant };
	"participant-left": { userId: string };
	"participant-media": { userId: string; audio: boolean; video: boolean; screen: boolean };
	"incoming-ring": { from: string; username: string; until: number };
	"ringing": { rings: Ring[] };
	"ring-ended": RingEnded;
	"call-state": { participants: Participant[]; rings: Ring[]; recentRings: RingEnded[] };
	"mesh-plan": { epoch: number; peers: PeerPlan[] };
	"member-role-changed": { userId: string; role: "owner" | "moderator" | "member" | "guest" | "observer"; by?: string };
	"group-updated": { groupName: string; settings: GroupSettings; by?: string };
	"member-kicked": { userIds: string[] };
	"kicked": { groupId: string; reason?: string; until?: number };
	"peer-revoked": { userId: string };
	"stop-requested": { userId: string; medium: "audio" | "video" | "screen"; by: string };
	"ban-list": { bans: Ban[] };
	"ban-lifted": { userId: string };
	"call-ended": { by: string };
	"group-ended": { groupId: string; by: string };
	"lobby-waiting": { groupId: string; groupName: string; position: number; moderatorHere: boolean };
	"lobby-request": { user: Knocker };
	"lobby-state": { waiting: Knocker[] };
	"lobby-settled": { userIds: string[] };
	"lobby-denied": { groupId: string; reason: "denied" | "timeout" | "ended" };
	"lobby-left": {};
	"ice-servers": { iceServers: IceServer[]; ttl: number; expiresAt: number; iceTransportPolicy?: "all" | "relay" };
	"error": { code: string; message: string; details?: Record<string, any> };
};
