/**
 * Rank 3. What people are told of the runs. `createReport` puts what is not protected first, `reportText` and `reportHtml` render it. What happens is posted into an
 * `Outbox` on disk, and `Delivery` takes it to mail, webhook and syslog: docs/notices.md.
 */
export type { NoticeChannel } from './channel.ts'
export { composeNotice, testNotice } from './compose-notice.ts'
export { type Coverage, type CoveredVm, isOverdue } from './coverage.ts'
export { Delivery, type NamedChannel } from './delivery.ts'
export { MailChannel, type MailSettings } from './mail-channel.ts'
export { NOTICE_EVENTS, type Notice, type NoticeEvent } from './notice.ts'
export { eventOf, type Occurrence } from './occurrence.ts'
export { Outbox } from './outbox.ts'
export { createReport, needsAttention, type Report, type ReportRequest } from './report.ts'
export { reportHtml } from './report-html.ts'
export { reportText } from './report-text.ts'
export { SyslogChannel } from './syslog-channel.ts'
export { type SyslogServer, serverName } from './syslog-dial.ts'
export { FACILITIES, type Facility } from './syslog-message.ts'
export { WebhookChannel } from './webhook-channel.ts'
