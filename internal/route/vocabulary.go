package route

import "strings"

// vocabulary holds words that name resources and actions of web interfaces, in the singular and in lower case: they are
// likely to be part of a route, and unlikely to be what somebody called a repository, a customer or an article. It is
// evidence among other and never decides alone.
var vocabulary = func() map[string]struct{} {
	words := map[string]struct{}{}
	for w := range strings.FieldsSeq(vocabularyText) {
		words[w] = struct{}{}
	}
	return words
}()

// apiWord tells whether a word in lower case, or its singular, is in the vocabulary.
func apiWord(w []byte) bool {
	if _, ok := vocabulary[string(w)]; ok {
		return true
	}
	for _, end := range [...][2]string{{"ies", "y"}, {"es", ""}, {"s", ""}, {"ing", ""}, {"ing", "e"}, {"ed", ""}, {"ed", "e"}} {
		if len(w) >= len(end[0])+2 && string(w[len(w)-len(end[0]):]) == end[0] {
			var b [32]byte
			s := append(append(b[:0], w[:min(len(w)-len(end[0]), 24)]...), end[1]...)
			if _, ok := vocabulary[string(s)]; ok {
				return true
			}
		}
	}
	return false
}

const vocabularyText = `
a able abort about accept access account ack acknowledge acl act action activate activation active activity actor ad add
additional address adjust adjustment admin administration administrator admission advanced advisory affiliation after agent aggregate
agreement ai album alert alias all allocation allow allowlist analysis analytic analyze and annotation announcement anonymous answer any
api app appeal append applicable application apply appointment approval approve approver archive area arrange article artifact
ask assert assertion asset assign assignable assignee assignment assistant associate association asynchronous async at
attach attachment attempt attempts attest attestation attribute attribution audience audio audit auth authenticate authentication authenticator author
authority authorization authorize auto autocomplete autofill automatic automation availability available avatar average award
back backend backfill background backlog backup badge balance ban bank banner base basic batch before begin benchmark beneficiary beta
bill billing bind binding binary blame blob block blocklist blog board body bookmark boost boot bot bottom bounce brand branch brief broadcast browse bucket
budget bug build builder bulk bundle business button buy by bypass byte
cache calculate calendar call callback campaign cancel cancellation candidate capability capacity capture card cart case cash catalog category
cause cdn cell cert certificate chain challenge change channel charge chart chat check checklist checkout checkpoint checksum
child children choice circle city claim class classification classify clean cleanup clear click client clone close closed cloud cluster
code codespace coin collaborator collect collection color column command comment commercial commit commitment common communication
community company compare comparison compatibility compete complete completion compliance component compose compute condition conference config
configuration configure confirm confirmation conflict connect connection connectivity connector consent console constraint consumer consumption contact container content
context contract contribution contributor control conversation conversion convert cookie copilot copy core cors cost count counter country coupon
coverage create created creation creator credential credit cron csp csr csv currency current cursor custom customer customization customize cve cycle
daemon daily dashboard data database dataset datasource date day deactivate deal debit debug decision deck declaration decline decrypt default
definition delay delegate delegation delete deletion deliver delivery demand demo dependabot dependency dependent deploy deployment deprecate deprecated derive describe
description desktop destination destroy detach detail detect detection dev developer device diagnostic dialog diff digest
dimension direct directory disable disconnect discount discover discovery discussion disk dismiss dispatch display dispute distribution dns doc
document documentation domain done download downgrade downtime draft drive driver drop duplicate duration
earning echo edge edit editor education effective email embed embedding emoji employee employer employment enable encrypt encryption end endpoint
engagement engine enrich enroll enrollment ensure enterprise entitlement entity entry enum environment ephemeral error escalation estimate evaluate evaluation
evaluator event evidence exam example exception exchange exclude exclusion exec execute execution exemption exist existing expand expense experience experiment
expiration expire expiry explain explore export expose expression extend extension external extract extraction
face factor failure fail family faq favicon favorite feature federation fee feed feedback fetch field file filter final finance financial find finding fine fingerprint firewall first
fix fixed flag fleet flow flush folder follow follower following font for force forecast forgot fork form format forum forward framework freeze frequency
friend from front fulfillment full function fund funding
gallery game garbage gateway general generate generation generic geo geocode get gift gist git global go goal good grade grant graph graphql group guest
guide guild guideline
handle handler handshake hash head header health healthcheck heartbeat help hidden hide hierarchy highlight history hold home hook horizontal host hour hourly hub
icon id identifier identity idp ignore image impact impersonate impersonation implementation import improve in inactive inbound inbox incident include income increment
index indicator info information ingest ingress inherit init initialize initiate inline input insert insight inspect install installation instance instant
institution instruction instrument insurance integration integrity intent interaction interest interface internal interval introspect introspection inventory invitation invite
invoice invoke ip is issue issuer item iteration
job join journal json
keep kernel key keyword kind knowledge kubernetes
label language last latency latest layer layout lead leaderboard leave ledger legacy legal lesson level liability library license lifecycle like limit line link linked
liquidity list listener listing live liveness load loan local locale location lock log logger login logo logout lookup loss lot
machine mail mailbox mailing maintenance manage management manager manifest manual map mark market marketplace marketing master match material matrix me
measure measurement media meeting member membership memory mention menu merchant merge message metadata meta method metric middleware migrate migration
milestone minimum minute mirror mobile mode model moderate moderation moderator modification modify module monitor month monthly more most move multi multipart
mutate mutation mute my
name namespace native navigation near network new news newest next node none normal normalize not note notebook notice notification notify now null number
oauth object objective occurrence of offer office offline offset oidc old on onboarding once online only open openapi openid operation operator opinion option optimize or order org organization
orchestrate origin original other outage outbound outcome output outside over overage overlay overview override owner ownership
pack package page paid pair panel parameter parent parse part participant participation partial partition partner party pass passkey password
patch path pattern pause pay payee payer payload payment payout payroll peer pending people percentile perform performance period permission person personal
phase phone photo pick picture pin ping pipeline place plan plane platform play player playground playlist plugin podcast point policy poll pool popular port portal
portfolio position post power practice pre predict prediction preference premium prepare presence present presentation preset preview previous price pricing primary
principal print priority privacy private privilege probe problem process processing processor product production profile program progress project
promote promotion prompt proof property proposal protect protected protection protocol provider provision proxy prune public publication publish publisher pull purchase purge purpose push put
python
quality quantity query question queue quick quiz quota quote
random range rank rate rating raw reaction reactivate read reader readiness ready real realm reason reassign rebase rebuild recalculate receipt receive recent
recipient recommend recommendation reconcile reconnect record recording recover recovery recurring redirect redeem redeliver redelivery reference referral refresh refund regenerate region register registration registry
regulation reindex reject relate relation relationship relay release reload relocation reminder remote remove removal rename renew renewal reopen reorder repair repeat replace
replica replay replication reply repo report reporter reporting repository representation request requested requirement requeue rerun resend reserve reservation reset resize resolution resolve resolver resource respond
response rest restart restore restrict restriction result resume retention retire retrieve retry return reveal revenue reverse revert review reviewer revision revoke
reward right risk robot role rollback rollout room root rota rotate rotation round route router routing row rule ruleset run runner running runtime
saas safe salary sale salesforce same saml sample sandbox save saved scale scaling scan scanner scanning scenario schedule scheduler schema scheme scim scope score screen screenshot script sdk search season seat secondary
secret section secure security see segment select selection self sell seller send sender sensor sentiment sequence serial series server service session set setting setup severity shape shard share shared sheet shift
ship shipment shipping shop shopping show shutdown sign signal signature signer signin signout signup silence similar simulate simulation simple single site size skill skip slack sla slide slo slot smart sms snapshot snippet social socket soft
solution solve sort source space spam specification speech speed spend split sponsor sponsorship spot sprint sql ssh ssl sso stack staff stage standard star start starred stash stat state statement static station statistic status step
stock stop storage store story strategy stream string structure student style sub subject submission submit subnet subscribe subscriber subscription success suggest suggestion suite
summarize summary super supplier support suppress suppression survey suspend suspension swagger sweep switch symbol sync synchronize syntax synthetic system
tab table tag takeover tally target task tax taxonomy team technology telemetry template tenant term terminal terminate test text theme thread threat threshold throttle thumbnail ticket tier time timeline timeout timer timestamp timezone title
to today todo toggle token tool top topic topology total totp touch trace track tracker tracking trade trading traffic trail train training transaction transcript transcription transfer transform transition translate translation transport trash
tree trend trending trial trigger trunk trust try tunnel turn two txt type typing
ui unarchive unassign unavailable unban unblock uncategorized undelete undo unfollow uninstall unit universal unlike unlink unlock unmute unpause unpin unpublish unread unregister unresolve unresolved unshare unstar unsubscribe
unsuspend until unused unwatch up upcoming update upgrade upload uptime upstream uri url usage use user username usergroup utility
validate validation validator value variable variant vault vector vendor verification verify version vertical video view viewer virtual visibility visible visit visitor vm voice void volume vote voucher vpc vpn vulnerability
wait waitlist wallet warehouse warm warning watch watcher way web webauthn webhook webhooks webinar website week weekly weight welcome well whitelist widget wifi wiki window wire withdraw withdrawal word work worker workflow workload workplace workspace write writer
outgoing incoming flagged invalidate invalidation deregister wrap unwrap intermediate starred pinned muted upstream downstream internal
uid guid gid sid slug ref db cpu gpu ram os vm lb ha ttl dsn sso rbac iam kms acl dlq
autoscale autoscaler pod healthz livez readyz
as the with without within per via than into be no so if it its
xml yaml year yearly you zip zone
js jwk jwt lfs li mfa nat oai otp pdf png qa rss sha sitemap svg tcp tls udp uuid vlan ws ftp ldap imap smtp gpg git http https grpc rpc odata soap wsdl robots favicon
`
