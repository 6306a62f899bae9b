# Run by cpack on the files of all packages before they are packed: adds what Debian wants in each of them (copyright, changelog)
# and compresses the man pages as Debian wants them.
find_program(GZIP gzip REQUIRED)

function(compress file)
  execute_process(COMMAND ${GZIP} -9nf ${file} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

# LICENSE: a title, who has the rights, the text. Lines of a field begin with a space, and empty ones have a dot.
file(READ ${CPACK_RESOURCE_FILE_LICENSE} license)
if(NOT license MATCHES "Copyright \\(c\\) ([^\n]+)\n+(.*)")
  message(FATAL_ERROR "${CPACK_RESOURCE_FILE_LICENSE}: expected a line 'Copyright (c) …'")
endif()
set(copyright ${CMAKE_MATCH_1})
string(REPLACE "\n\n" "\n.\n" text "${CMAKE_MATCH_2}")
string(REGEX REPLACE "(^|\n)([^\n])" "\\1 \\2" text "${text}")
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)

foreach(component ${CPACK_COMPONENTS_ALL})
  string(TOUPPER ${component} upper)
  set(package ${CPACK_DEBIAN_${upper}_PACKAGE_NAME})
  set(usr ${CPACK_TEMPORARY_DIRECTORY}/${component}/usr)
  set(doc ${usr}/share/doc/${package})
  file(WRITE ${doc}/copyright "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: faq

Files: *
Copyright: ${copyright}
License: Expat
${text}")
  file(WRITE ${doc}/changelog "faq (${CPACK_PACKAGE_VERSION}) unstable; urgency=medium

  * Made by cpack. CHANGELOG.md of the sources says what is new.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")
  compress(${doc}/changelog)
  file(GLOB pages ${usr}/share/man/man1/*.1)
  foreach(page ${pages})
    compress(${page})
  endforeach()
endforeach()
