//! Tables that PostgreSQL's tools ask for and that never hold anything here.

use super::Definition;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::func::EvalContext;
use crate::session::Row;

fn nothing(_: &Catalog, _: &EvalContext<'_>) -> Result<Vec<Row>> {
    Ok(Vec::new())
}

pub(super) const TABLES: &[Definition] = &[
    ("pg_auth_members", 1261, "roleid oid, member oid, grantor oid, admin_option bool", nothing),
    ("pg_shdescription", 2396, "objoid oid, classoid oid, description text", nothing),
    ("pg_inherits", 2611, "inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool", nothing),
    (
        "pg_partitioned_table",
        3350,
        "partrelid oid, partstrat \"char\", partnatts int2, partdefid oid, partattrs int2[], partclass oid[],
         partcollation oid[], partexprs text",
        nothing,
    ),
    (
        "pg_trigger",
        2620,
        "oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, tgenabled \"char\",
         tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool,
         tginitdeferred bool, tgnargs int2, tgattr int2[], tgargs bytea, tgqual text, tgoldtable name, tgnewtable name",
        nothing,
    ),
    (
        "pg_event_trigger",
        3466,
        "oid oid, evtname name, evtevent name, evtowner oid, evtfoid oid, evtenabled \"char\", evttags text[]",
        nothing,
    ),
    (
        "pg_rewrite",
        2618,
        "oid oid, rulename name, ev_class oid, ev_type \"char\", ev_enabled \"char\", is_instead bool, ev_qual text,
         ev_action text",
        nothing,
    ),
    (
        "pg_policy",
        3256,
        "oid oid, polname name, polrelid oid, polcmd \"char\", polpermissive bool, polroles oid[], polqual text,
         polwithcheck text",
        nothing,
    ),
    (
        "pg_policies",
        12_020,
        "schemaname name, tablename name, policyname name, permissive text, roles name[], cmd text, qual text,
         with_check text",
        nothing,
    ),
    (
        "pg_publication",
        6104,
        "oid oid, pubname name, pubowner oid, puballtables bool, pubinsert bool, pubupdate bool, pubdelete bool,
         pubtruncate bool, pubviaroot bool",
        nothing,
    ),
    ("pg_publication_rel", 6106, "oid oid, prpubid oid, prrelid oid, prqual text, prattrs int2[]", nothing),
    ("pg_publication_namespace", 6237, "oid oid, pnpubid oid, pnnspid oid", nothing),
    (
        "pg_publication_tables",
        12_021,
        "pubname name, schemaname name, tablename name, attnames name[], rowfilter text",
        nothing,
    ),
    (
        "pg_subscription",
        6100,
        "oid oid, subdbid oid, subname name, subowner oid, subenabled bool, subconninfo text, subslotname name,
         subpublications text[]",
        nothing,
    ),
    (
        "pg_statistic_ext",
        3381,
        "oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, stxstattarget int4, stxkeys int2[],
         stxkind \"char\"[], stxexprs text",
        nothing,
    ),
    (
        "pg_stats",
        12_022,
        "schemaname name, tablename name, attname name, inherited bool, null_frac float4, avg_width int4,
         n_distinct float4",
        nothing,
    ),
    ("pg_foreign_table", 3118, "ftrelid oid, ftserver oid, ftoptions text[]", nothing),
    (
        "pg_foreign_server",
        1417,
        "oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text, srvversion text, srvacl text[], srvoptions text[]",
        nothing,
    ),
    (
        "pg_foreign_data_wrapper",
        2328,
        "oid oid, fdwname name, fdwowner oid, fdwhandler oid, fdwvalidator oid, fdwacl text[], fdwoptions text[]",
        nothing,
    ),
    ("pg_user_mapping", 1418, "oid oid, umuser oid, umserver oid, umoptions text[]", nothing),
    ("pg_views", 12_023, "schemaname name, viewname name, viewowner name, definition text", nothing),
    (
        "pg_matviews",
        12_024,
        "schemaname name, matviewname name, matviewowner name, tablespace name, hasindexes bool, ispopulated bool,
         definition text",
        nothing,
    ),
    ("pg_rules", 12_025, "schemaname name, tablename name, rulename name, definition text", nothing),
    ("pg_enum", 3501, "oid oid, enumtypid oid, enumsortorder float4, enumlabel name", nothing),
    (
        "pg_range",
        3541,
        "rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid, rngcanonical regproc,
         rngsubdiff regproc",
        nothing,
    ),
    ("pg_db_role_setting", 2964, "setdatabase oid, setrole oid, setconfig text[]", nothing),
    (
        "pg_default_acl",
        826,
        "oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype \"char\", defaclacl text[]",
        nothing,
    ),
    (
        "pg_extension",
        3079,
        "oid oid, extname name, extowner oid, extnamespace oid, extrelocatable bool, extversion text, extconfig oid[],
         extcondition text[]",
        nothing,
    ),
    (
        "pg_aggregate",
        2600,
        "aggfnoid regproc, aggkind \"char\", aggnumdirectargs int2, aggtransfn regproc, aggfinalfn regproc",
        nothing,
    ),
    (
        "pg_cast",
        2605,
        "oid oid, castsource oid, casttarget oid, castfunc oid, castcontext \"char\", castmethod \"char\"",
        nothing,
    ),
    (
        "pg_operator",
        2617,
        "oid oid, oprname name, oprnamespace oid, oprowner oid, oprkind \"char\", oprcanmerge bool, oprcanhash bool,
         oprleft oid, oprright oid, oprresult oid, oprcom oid, oprnegate oid, oprcode regproc, oprrest regproc,
         oprjoin regproc",
        nothing,
    ),
    (
        "pg_opclass",
        2616,
        "oid oid, opcmethod oid, opcname name, opcnamespace oid, opcowner oid, opcfamily oid, opcintype oid,
         opcdefault bool, opckeytype oid",
        nothing,
    ),
    ("pg_opfamily", 2753, "oid oid, opfmethod oid, opfname name, opfnamespace oid, opfowner oid", nothing),
    ("pg_largeobject_metadata", 2995, "oid oid, lomowner oid, lomacl text[]", nothing),
    (
        "pg_shdepend",
        1214,
        "dbid oid, classid oid, objid oid, objsubid int4, refclassid oid, refobjid oid, deptype \"char\"",
        nothing,
    ),
    ("pg_seclabel", 3596, "objoid oid, classoid oid, objsubid int4, provider text, label text", nothing),
    ("pg_ts_config", 3602, "oid oid, cfgname name, cfgnamespace oid, cfgowner oid, cfgparser oid", nothing),
    (
        "pg_conversion",
        2607,
        "oid oid, conname name, connamespace oid, conowner oid, conforencoding int4, contoencoding int4,
         conproc regproc, condefault bool",
        nothing,
    ),
    ("pg_ts_dict", 3600, "oid oid, dictname name, dictnamespace oid, dictowner oid, dicttemplate oid", nothing),
    (
        "pg_prepared_xacts",
        12_026,
        "transaction oid, gid text, prepared timestamptz, owner name, database name",
        nothing,
    ),
    ("pg_locks", 12_027, "locktype text, database oid, relation oid, pid int4, mode text, granted bool", nothing),
    (
        "pg_stat_user_tables",
        12_028,
        "relid oid, schemaname name, relname name, seq_scan int8, seq_tup_read int8, idx_scan int8, idx_tup_fetch int8,
         n_tup_ins int8, n_tup_upd int8, n_tup_del int8, n_live_tup int8, n_dead_tup int8",
        nothing,
    ),
];
