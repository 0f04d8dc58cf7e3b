# Writes the files of R: what is in r/, by R 4.2.2 with data.table 1.14.8 and readr 2.1.4. Rscript r.R FOLDER
suppressMessages({ library(data.table); library(readr) })
folder <- commandArgs(TRUE)[1]
at <- as.POSIXct(c("2011-05-03 09:00:00", "2011-05-04 09:00:00", "2011-05-05 09:00:00", "2011-05-05 21:30:00",
  "2011-05-06 09:00:00", "2011-05-07 09:00:00"), tz = "UTC")
oolong <- "Oolong \"tie guan yin\""
sencha <- "Sencha, spring"
plays <- data.frame(
  user = c(7, 8, 8, 100000, 9, 9), # doubles, as R has all numbers unless told otherwise: 1e+05 in most of these
  item = factor(c("1", "2", "1", "3", "1", "3")), # a factor
  rating = c(4.5, NA, 1, 5, 4, 2),
  at = at,
  title = factor(c(oolong, NA, oolong, sencha, oolong, sencha)),
  stringsAsFactors = FALSE
)
dir.create(folder, showWarnings = FALSE)
utf8 <- function(name) file.path(folder, name)
write.csv(plays, utf8("write.csv")) # names of rows in a column without a name, NA, quotes doubled
write.csv2(plays, utf8("write.csv2.csv"), row.names = FALSE) # semicolons and decimal commas
write.table(plays[c("user", "item", "rating")], utf8("write.table.txt")) # spaces, a header that is one shorter
write.table(plays, utf8("write.table.tsv"), sep = "\t", qmethod = "double", row.names = FALSE)
fwrite(plays, utf8("fwrite.csv")) # dates as 2011-05-03T09:00:00Z, nothing for NA
fwrite(plays, utf8("fwrite.csv.gz"))
write_csv(plays, utf8("write_csv.csv"))
write_excel_csv2(plays, utf8("write_excel_csv2.csv")) # with a byte order mark
saveRDS(plays, utf8("saveRDS.rds"))
