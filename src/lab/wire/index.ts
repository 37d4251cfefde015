/**
 * The lab's wire: a vSphere SOAP server over TLS, independent of the agent's client.
 *
 * The model gives an `ObjectStore` (objects with lazily computed properties), `Methods` (by managed type and wire name) and says what changed
 * through `ChangeFeed`; the wire does the rest: XML both ways by the published type definitions (`types.json`), versions, sessions, service
 * content, property collector, views, tasks, events, faults. Objects the wire serves itself: ServiceInstance, SessionManager, PropertyCollector,
 * PropertyFilter, ViewManager, ContainerView, ListView, TaskManager, Task, EventManager, EventHistoryCollector.
 *
 * Composition: `ChangeFeed` → `Sessions`, `Tasks`, `Events` → store and methods → `serveSoap`. Values are `LabValue`s: references
 * `{ $ref, value }`, data objects `{ $type, …fields }`; a fault is a thrown `VimFault`.
 */
export { loadCertificate } from './certificate.ts'
export { ChangeFeed, type ChangeListener } from './change-feed.ts'
export { eventArgument, Events, type EventsOptions } from './events.ts'
export { invalidArgument, notAuthenticated, notFound, toVimFault, VimFault } from './fault.ts'
export type { ManagedObject, Method, MethodCall, Methods, ObjectStore } from './managed-object.ts'
export { listen } from './listen.ts'
export { type CallInfo, type Intervention, serveSoap, type SoapServer, type SoapServerOptions } from './server.ts'
export { aboutInfo, type LabKind, managerRef, managerRefs, type ManagerName, ownManagerRef, SERVICE_INSTANCE } from './service-content.ts'
export { type LabSession, type LabUser, type Peer, peerOf, type ServiceTicket, Sessions, type SessionsOptions } from './session.ts'
export { type TaskHandle, type TaskOptions, Tasks, type TasksOptions } from './task.ts'
export { TypeTable } from './type-table.ts'
export { arrayOf, isList, isObject, isRef, type LabObject, type LabRef, labRef, type LabValue, sameRef, textOf, typed } from './value.ts'
