/**
 * Rank 3. What people are told of the runs: `createReport` puts what is not protected first, `reportText` and `reportHtml` render it.
 */
export { type Coverage, type CoveredVm, isOverdue } from './coverage.ts'
export { createReport, type FailedRun, type LeftOut, needsAttention, type Report, type ReportRequest } from './report.ts'
export { reportHtml } from './report-html.ts'
export { reportText } from './report-text.ts'
