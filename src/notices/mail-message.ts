import type { SendMailOptions } from 'nodemailer'
import type { Notice } from './notice.ts'
import { reportHtml } from './report-html.ts'
import { reportText } from './report-text.ts'

/** A notice as mail, text and HTML, for nodemailer, which encodes its headers (RFC 2047). Automatic (RFC 3834), so that nobody's absence answers it. */
export const mailMessage = (notice: Notice, { from, to }: { readonly from: string; readonly to: readonly string[] }): SendMailOptions => ({
  from,
  to: [...to],
  subject: notice.headline,
  text: reportText(notice.report),
  html: reportHtml(notice.report),
  messageId: `<${notice.id}@${domainOf(from)}>`,
  date: new Date(notice.at),
  headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
  ...(notice.severity === 'error' ? { priority: 'high' as const } : {}),
})

/** The part of an address behind the @, as far as a message id may hold it. */
const domainOf = (from: string): string => /@([\w.-]+)>?\s*$/u.exec(from)?.[1] ?? 'localhost'
